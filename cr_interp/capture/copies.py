"""Copies of a model that share its weights, for backends that have to change what they run.

TransformerLens replaces modules, nnsight replaces their ``forward``. Both get a copy whose parameters and buffers *are*
the original's (so it costs about a megabyte for a small model), and the user's model stays as it is. The copy follows
weights that are trained in place; when something else has changed since (an adapter switched off or merged, a
parameter replaced, ``train()`` called), it is made again.
"""

import copy
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from cr_interp.models.forward import unwrap

Made = TypeVar("Made")
Cache = MutableMapping[nn.Module, tuple[Any, Any]]


def new_cache() -> Cache:
    """Make a cache with an entry per model; an entry goes when its model goes."""
    return WeakKeyDictionary()


def cached(cache: Cache, model: nn.Module, make: Callable[[Any], Made]) -> Made:
    """Return ``make(copy that shares the weights)``: made once per model, and again when the model has changed."""
    inner = unwrap(model)
    signature = _signature(inner)
    known = cache.get(inner)
    if known is None or known[0] != signature:
        known = cache[inner] = (signature, make(shared_copy(inner)))
    return known[1]


def shared_copy(inner: Any) -> Any:
    """Return a deep copy in which every parameter and buffer is the original's."""
    return copy.deepcopy(inner, {id(tensor): tensor for tensor in (*inner.parameters(), *inner.buffers())})


def _signature(inner: nn.Module) -> Any:
    """List what such a copy cannot follow: which tensors there are, the mode, attention, the state of adapters."""
    tensors = tuple(id(tensor) for tensor in (*inner.parameters(), *inner.buffers()))
    modules: list[Any] = list(inner.modules())
    adapters = tuple(
        (module.disable_adapters, tuple(module.active_adapters), tuple(module.merged_adapters))
        for module in modules
        if hasattr(module, "merged_adapters") and hasattr(module, "disable_adapters")
    )
    return tensors, inner.training, unwrap(inner).config._attn_implementation, adapters
