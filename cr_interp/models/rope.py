"""Rotary factors that depend on how long the whole sequence is: which lengths share them, and no memory between calls.

Mental model. RoPE turns a key by an angle that depends on its position. Two kinds of RoPE also ask how long the
sequence is: longrope (Phi-3) takes other factors beyond its original length, dynamic NTK other ones at every length
beyond it. A key that was kept while the sequence was short then has the wrong angle once it is long, and in a padded
batch the longest row decides for all. So lengths fall into *classes*: only sequences of one class may share a forward,
and only keys of class ``()`` (short everywhere) may be kept.

The library remembers the longest sequence that a dynamic NTK has seen and goes on using its factors, so that a model's
answer would depend on what was asked before. Importing this module takes that memory away: see :func:`_forgetful`.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from torch import nn
from transformers import modeling_rope_utils

LengthClass = tuple[int, ...]
"""``()``: as short as the factors were made for. Otherwise, per boundary that is crossed, which factors there are."""


@dataclass(frozen=True)
class Boundary:
    """The length up to which a rotary embedding has its own factors."""

    length: int
    every_length: bool
    """Beyond it: other factors at every length (dynamic NTK), or one other set (longrope)."""


def boundaries(model: nn.Module) -> tuple[Boundary, ...]:
    """Collect the boundaries of all rotary embeddings whose factors depend on the length; in rising order."""
    found: set[Boundary] = set()
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layer_type, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
            if not isinstance(kind, str):
                continue
            if "dynamic" in kind:
                found.add(Boundary(int(module.original_max_seq_len), True))  # type: ignore[arg-type]
                continue
            given: Any = getattr(module.config, "rope_parameters", None) or {}
            given = given if layer_type is None else given.get(layer_type, {})
            # Phi-MoE has two scales besides, whatever its factors are.
            if kind == "longrope" or (kind != "default" and "long_mscale" in given):
                found.add(Boundary(int(given["original_max_position_embeddings"]), False))
    return tuple(sorted(found, key=lambda b: (b.length, b.every_length)))


def length_class(limits: Sequence[Boundary], length: int) -> LengthClass:
    """Tell which factors a sequence of so many tokens gets.

    >>> longrope, dynamic = Boundary(4096, False), Boundary(2048, True)
    >>> [length_class([longrope], n) for n in (4096, 4097, 9000)]
    [(), (4097,), (4097,)]
    >>> [length_class([dynamic], n) for n in (2048, 2049, 2050)]
    [(), (2049,), (2050,)]
    """
    return tuple(length if b.every_length else b.length + 1 for b in limits if length > b.length)


# -- dynamic NTK without a memory ----------------------------------------------------------------------------


def _forget(module: Any) -> None:
    """Bring back the factors that a dynamic NTK starts with; nothing, for every other rotary embedding."""
    kinds = getattr(module, "rope_type", None)
    for layer_type, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
        if not isinstance(kind, str) or "dynamic" not in kind:
            continue
        before = "" if layer_type is None else f"{layer_type}_"
        if getattr(module, f"{before}max_seq_len_cached", 0) <= module.original_max_seq_len:
            continue
        factors = getattr(module, f"{before}inv_freq")
        original = getattr(module, f"{before}original_inv_freq").to(factors.device)
        module.register_buffer(f"{before}inv_freq", original, persistent=False)
        setattr(module, f"{before}max_seq_len_cached", module.original_max_seq_len)


def _forgetful(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a rotary embedding's forward that depends on its input alone."""

    @wraps(forward)
    def fresh(self: Any, *args: Any, **kwargs: Any) -> Any:
        _forget(self)
        return forward(self, *args, **kwargs)

    fresh.forgets = True  # type: ignore[attr-defined]
    return fresh


def _install() -> None:
    """Do so for the rotary embeddings that are defined already and for those to come."""
    decorate = modeling_rope_utils.dynamic_rope_update
    if not hasattr(decorate, "forgets"):

        @wraps(decorate)
        def without_memory(rope_forward: Callable[..., Any]) -> Callable[..., Any]:
            return _forgetful(decorate(rope_forward))

        without_memory.forgets = True  # type: ignore[attr-defined]
        modeling_rope_utils.dynamic_rope_update = without_memory
    for name, module in list(sys.modules.items()):
        if not name.startswith("transformers.models.") or ".modeling_" not in name:
            continue
        for each in list(vars(module).values()):
            if isinstance(each, type) and each.__name__.endswith("RotaryEmbedding"):
                forward: Any = each.__dict__.get("forward")
                if hasattr(forward, "__wrapped__") and not hasattr(forward, "forgets"):
                    each.forward = _forgetful(forward)  # type: ignore[attr-defined]


_install()
