"""bfloat16 where it is harmless: matrix products, and weights that are not trained.

Mental model. What is trained stays float32, with its gradients and its optimiser's moments: a step of 5e-6 on a weight
of 0.02 is below the resolution of bfloat16 (2⁻⁸ of the weight) and would be rounded away. The frozen teacher, or the
frozen base under an adapter, is held in bfloat16. Logits become float32 before anything is made of them.
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
    """Choose what weights that are not trained are loaded in."""
    return torch.bfloat16 if bf16 else torch.float32
