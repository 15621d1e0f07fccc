"""bfloat16 where it is harmless: in matrix products, and for weights that are not trained.

Mental model. Weights that are trained stay float32, with their gradients and the optimiser's moments. A step of 5e-6 on a
weight of 0.02 is smaller than bfloat16 resolves (2⁻⁸ of the weight) and would be rounded away. The frozen teacher, or the
frozen base under an adapter, is held in bfloat16. Logits are turned into float32 before losses are computed from them.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from cr_interp.models.forward import device_of


def precision(bf16: bool, model: nn.Module) -> AbstractContextManager[Any]:
    """Compute matrix products in bfloat16 if the configuration says so; weights keep their type."""
    return torch.autocast(device_of(model).type, torch.bfloat16) if bf16 else nullcontext()


def frozen_dtype(bf16: bool) -> torch.dtype:
    """Choose the type in which weights that are not trained are loaded."""
    return torch.bfloat16 if bf16 else torch.float32
