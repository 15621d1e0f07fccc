"""Weights that are all there: what a checkpoint holds against what its configuration describes.

Mental model. The library takes from a checkpoint what fits, fills the rest with random numbers, says so in its log, and goes
on; the table would then be about a random model. So its report of a load is asked for, and anything missing, left over or
of another shape is refused by name. Two things are not damage: the wrappers' names that ``torch.compile``, DDP, FSDP
and DeepSpeed put into the keys (:func:`plain`) are taken out, and constants of old checkpoints (causal masks) are dropped.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file, logging

from cr_interp.errors import UserError
from cr_interp.models.sizes import refuse_larger
from cr_interp.system.text_files import read_json

#: Modules that hold a model as their only child: DDP and DataParallel, torch.compile, FSDP, its recomputing, DeepSpeed.
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
#: The causal mask that GPT-2's and GPT-NeoX's attention once saved beside its weights; it is computed now.
CONSTANTS = re.compile(r"(^|\.)(attn|attention)\.(masked_)?bias$")
SHOWN = 3


def plain(key: str) -> str:
    """Return a tensor's name without the names of wrappers around the model or a part of it.

    >>> plain("module._orig_mod.model.layers.0._orig_mod.mlp.up_proj.weight")
    'model.layers.0.mlp.up_proj.weight'
    """
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def unwrapped(tensors: Mapping[str, Tensor], where: Path | str) -> dict[str, Tensor]:
    """Return the same tensors by their plain names; :class:`UserError` if two of them then have the same."""
    named: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if plain(key) in named:
            raise UserError(
                f"{where} holds {plain(key)} twice, with and without a wrapper's name ({key}), so it is not known which one is "
                f"meant. Save the model again, without the wrapper (accelerate's unwrap_model, or the model's _orig_mod)."
            )
        named[plain(key)] = tensor
    return named


def load_whole(path: Path | str, dtype: torch.dtype, strip: bool = True, **kwargs: Any) -> PreTrainedModel:
    """Load a checkpoint of which every tensor is known to be in its place.

    ``path`` is a folder or a hub id, ``kwargs`` go to ``from_pretrained``. Names that a wrapper gave are taken out if
    ``strip``. Raises :class:`UserError` for a checkpoint that is incomplete, and
    whatever the library raises for one that it cannot read.
    """
    if isinstance(path, Path):
        refuse_larger(path)
    with _bar_if_large(path), _report_is_ours():
        # Said, not left to the default: with that, code beside the weights is asked about, and run on a yes.
        model, info = auto_class(path).from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **kwargs,
        )
        wrapped = sorted(key for key in info["unexpected_keys"] if plain(key) != key)
        if wrapped and not strip:
            raise UserError(
                f"{path} was saved from a wrapped model (torch.compile, DDP or FSDP): its tensors are called "
                f"{first_few(wrapped)}. Load it with strip=True, as the command line does, or save the unwrapped model again "
                f"(accelerate's unwrap_model, or the model's _orig_mod)."
            )
        if wrapped:
            model, info = _load_wrapped(model, path, dtype, kwargs)
    refuse_incomplete(path, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model


def auto_class(path: Path | str) -> Any:
    """Return the library's class for a checkpoint: the one with the name that its ``config.json`` gives, since a model of
    text and images can be loaded without its images, and its other tensors would be left over.
    """
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception:  # the loader meets it again, and what it says is explained there
        return AutoModelForCausalLM
    kinds: tuple[Any, ...] = (AutoModelForCausalLM, AutoModelForImageTextToText)
    fitting = [kind for kind in kinds if type(config) in kind._model_mapping]
    for kind in fitting:
        found = kind._model_mapping[type(config)]
        names = [each.__name__ for each in (found if isinstance(found, list | tuple) else [found])]
        if set(names) & set(config.architectures or ()):
            return kind
    return fitting[0] if fitting else AutoModelForCausalLM


def refuse_incomplete(
    where: Path | str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]] = (),
    described: str = "its config.json",
) -> None:
    """Raise :class:`UserError` if a checkpoint and a description of it differ; ``mismatched``: (name, found, expected shape)."""
    missing = list(missing)
    left_over = [key for key in unexpected if not CONSTANTS.search(key)]
    shapes = [f"{name}: {tuple(found)} instead of {tuple(wanted)}" for name, found, wanted in mismatched]
    found = [
        f"{len(names)} {'are' if len(names) > 1 else 'is'} {what} ({first_few(names)})"
        for names, what in (
            (sorted(missing), "missing"),
            (sorted(left_over), "left over"),
            (sorted(shapes), "of another shape"),
        )
        if names
    ]
    if found:
        empty = any((*missing, *shapes))
        otherwise = "random numbers in the places that stay empty" if empty else "what is left over dropped"
        raise UserError(
            f"{where} does not hold the tensors that {described} describes: {'; '.join(found)}. The library would go on with "
            f"{otherwise}. Save the whole model again (save_pretrained), or put the configuration right."
        )


def first_few(names: Sequence[str]) -> str:
    """Write the first few names, and how many more there are.

    >>> first_few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _load_wrapped(
    model: PreTrainedModel, path: Path | str, dtype: torch.dtype, kwargs: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load the same checkpoint once more, under the plain names of its tensors. ``model``: how it was loaded without that.

    The library's ``key_mapping`` would do, but it is remembered and undone when the model is saved.
    """
    folder = path if isinstance(path, Path) else Path(str(cached_file(path, "config.json"))).parent
    tensors = unwrapped(dict(_tensors(folder)), path)
    again: Any = type(model)
    loaded, info = again.from_pretrained(
        None,
        config=model.config,
        state_dict=tensors,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **kwargs,
    )
    if (folder / "generation_config.json").is_file():
        loaded.generation_config = GenerationConfig.from_pretrained(folder)
    loaded.name_or_path = loaded.config._name_or_path = str(path)
    return loaded, info


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Read what a checkpoint's safetensors hold, file by file."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file() or not index.is_file():
        files = ["model.safetensors"]
    else:
        files = sorted(set(read_json(index)["weight_map"].values()))
    for name in files:
        with safe_open(folder / name, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  # not a dictionary
                yield key, file.get_tensor(key)


@contextmanager
def _bar_if_large(path: Path | str) -> Iterator[None]:
    """Hide the progress bar for weights that load in a moment: a study loads dozens of checkpoints."""
    small = isinstance(path, Path) and sum(f.stat().st_size for f in path.glob("*.safetensors")) < 2**30
    silenced = small and logging.is_progress_bar_enabled()
    if silenced:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if silenced:
            logging.enable_progress_bar()


@contextmanager
def _report_is_ours() -> Iterator[None]:
    """Hide the library's table of tensors that did not fit: it is made into a refusal, or mended."""
    before = logging.get_verbosity()
    logging.set_verbosity(max(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)
