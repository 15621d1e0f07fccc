"""NumPy arrays are taken wherever tensors are: whoever has states from elsewhere need not convert them."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec("P")
R = TypeVar("R")


def tensors(value: Any) -> Any:
    """Turn every array in the value into a tensor that shares its memory; lists and mappings are gone through.

    >>> tensors({0: np.zeros((2, 3))})[0].shape
    torch.Size([2, 3])
    """
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Mapping):
        return {key: tensors(each) for key, each in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(each, np.ndarray) for each in value):
        return [tensors(each) for each in value]
    return value


def takes_arrays(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of tensors take arrays too."""

    @wraps(function)
    def taking(*arguments: P.args, **options: P.kwargs) -> R:
        return function(*map(tensors, arguments), **{key: tensors(each) for key, each in options.items()})  # type: ignore[arg-type]

    return taking
