"""How many bytes of tensors exist at a time: a mode that sees every operator's outputs, forward and backward.

A storage counts from the operator that made it until the last tensor on it is gone; views and in-place results count
once. What a kernel allocates and frees inside itself is not seen.
"""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """``peak`` bytes existed at once among the tensors made inside."""

    def __init__(self, known=()):
        super().__init__()
        self.live, self.peak = 0, 0
        self._sizes = {}
        self._watched = {}
        self._ignored = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else (out,):  # all that an operator returns
            if isinstance(tensor, torch.Tensor):
                self._see(tensor)
        return out

    def _see(self, tensor):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes or key in self._ignored:
            return
        size = storage.nbytes()
        self._sizes[key] = (size, tuple(tensor.shape))
        self._watched[key] = weakref.ref(storage, lambda _: self._gone(key))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _gone(self, key):
        del self._watched[key]
        self.live -= self._sizes.pop(key)[0]
