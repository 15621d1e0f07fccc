"""Models whose weights are spread over processes: each holds a part of every tensor, and a layer is gathered before it runs.

Mental model. Gathering needs all processes at once, so all processes have to run the same layers equally often. Decoding
breaks this unless it is told: the responses of one process end earlier than another's. FSDP2 makes the parts DTensors.
DeepSpeed's ZeRO-3 leaves empty tensors, with a ``ds_id``, and the whole tensor's shape in ``ds_shape``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor


def is_sharded(model: nn.Module) -> bool:
    """Tell whether this process holds only a part of the model's weights."""
    return is_partitioned(model) or any(isinstance(parameter, DTensor) for parameter in model.parameters())


def is_partitioned(model: nn.Module) -> bool:
    """Tell whether the weights are parts that ZeRO-3 made."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def shape_of(parameter: Tensor) -> Sequence[int]:
    """Give the shape of the whole tensor, also where this process holds a part of it or nothing."""
    return getattr(parameter, "ds_shape", parameter.shape)


def whole(parameter: Tensor) -> Tensor:
    """Gather the whole tensor from its parts (FSDP2). Every process has to call this."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def all_agree(value: bool) -> bool:
    """Tell whether a condition is true in every process."""
    tensor = torch.tensor(int(value), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
    return bool(tensor)
