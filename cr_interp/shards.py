"""Models whose weights are spread over processes (FSDP2): each holds a part of every tensor and gathers a layer to run it.

Mental model: gathering needs all processes at once, so they have to run the same layers equally often. Decoding is where
they would not: one process's responses end earlier than another's.
"""

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of the weights only."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def all_agree(value: bool) -> bool:
    """Whether it is true in every process."""
    tensor = torch.tensor(int(value), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
    return bool(tensor)
