"""A second device that no machine has to have: its tensors compute here, and refuse to meet the CPU's, as a GPU's do.

Mental model: inside of :func:`elsewhere` a tensor that is moved to ``ELSEWHERE`` becomes a :class:`Far`, an ordinary tensor in a
wrapper that claims another device (torch's ``meta``, since that one needs no driver). Every operation looks at the devices of
what it is given. As on a GPU, a single number and the indices of a selection may be from the CPU, and ``numpy()`` fails.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

ELSEWHERE = torch.device("meta")
MAY_MIX = {"aten::copy_", "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class Far(torch.Tensor):
    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Far":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"Far({self.inner})"


def leaves(value: Any) -> Iterator[Any]:
    """What an operator is given: values, and lists of them. Torch's own walk takes longer than the operators do here."""
    for each in value:
        if isinstance(each, list | tuple):
            yield from leaves(each)
        else:
            yield each


def unwrapped(value: Any) -> Any:
    if isinstance(value, Far):
        return value.inner
    return type(value)(map(unwrapped, value)) if type(value) in (list, tuple) else value


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [each for each in leaves((args, *kwargs.values())) if isinstance(each, torch.Tensor)]
    wrapped = far = any(isinstance(each, Far) for each in tensors)
    here = [each for each in tensors if not isinstance(each, Far) and each.dim() > 0]
    name = func._schema.name
    if far and here and name not in MAY_MIX:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {ELSEWHERE} and cpu")
    if name == "aten::copy_":
        far = isinstance(args[0], Far)
    if kwargs.get("device") is not None:
        far = torch.device(kwargs["device"]) == ELSEWHERE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if wrapped:
        args_inside, kwargs_inside = unwrapped(args), {name: unwrapped(value) for name, value in kwargs.items()}
        found = func(*args_inside, **kwargs_inside)
    else:
        found = func(*args, **kwargs)
    if func._schema.is_mutable and isinstance(found, torch.Tensor):
        return args[0] if args else kwargs["out"]  # in place: the one that was given
    return tree_map_only(torch.Tensor, Far, found) if far else found


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """What is no operation: ``torch.tensor(…, device=meta)`` would forget its numbers before one sees them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") is not None:
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is torch.Tensor.tolist:  # a GPU's has it, a wrapper has not
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Inside, ``ELSEWHERE`` is a device like any other."""
    with _Operations(), _Literals():
        yield ELSEWHERE
