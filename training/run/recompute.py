"""Gradient checkpointing that keeps the shared prefix.

The library's own switch drops the cache of keys and values, because a layer that runs a second time would find its own
keys in it already; the context would silently be gone. Here the cache is only read (``cr_interp/models/prefix_cache.py``), so
a layer may run as often as it likes, and the layers are told so. Source of the mechanism:
``transformers.modeling_layers.GradientCheckpointingLayer``.
"""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from cr_interp.errors import UserError


def recompute_layers(model: nn.Module) -> None:
    """Let each layer keep its input alone while training, from now on. Values and gradients stay what they are."""
    layers: list[Any] = [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]
    if not layers or not hasattr(GradientCheckpointingLayer, "_can_checkpoint_with_cache"):
        raise UserError(
            f"{type(model).__name__} has no layers that can be computed again here (found {len(layers)} of the library's "
            f"GradientCheckpointingLayer). Set training.gradient_checkpointing=false and lower training.micro_batch."
        )
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._can_checkpoint_with_cache = True
        # There is no randomness to bring back: dropout is off.
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
