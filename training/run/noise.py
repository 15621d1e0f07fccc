"""Nothing random in a forward: the views of a step must differ by the context alone, not by dropout's noise.

Mental model. Dropout is a module in some models, a number that a function is called with in others, and mixtures of experts
shake their router's input. What can be switched off is switched off; then the model is asked whether it says the same twice,
and the same as in eval mode, in which responses are sampled and answers graded.
"""

import torch
from torch import Tensor, nn

from cr_interp.errors import UserError
from cr_interp.models.forward import device_of, embedded, run_whole, unwrap


def switch_dropout_off(model: nn.Module) -> None:
    """Set every dropout and every jitter of a router's input to 0. Configurations stay as they are: they are saved."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            noisy = "dropout" in name or name.endswith("pdrop") or name in ("jitter_noise", "input_jitter_noise")
            if noisy and isinstance(value, float):
                setattr(module, name, 0.0)


@torch.no_grad()
def check_repeatable(model: nn.Module, tolerance: float = 1e-3) -> None:
    """Refuse a model that computes something else while it is trained than while it answers, or each time anew."""
    inner: nn.Module = unwrap(model)
    modes = {module: module.training for module in inner.modules()}
    ids = (torch.arange(2, 14, device=device_of(model)) % embedded(model))[None]
    if next(model.parameters()).dtype not in (torch.float32, torch.float64):
        tolerance = 0.1
    try:
        with torch.random.fork_rng(devices=[]):
            inner.eval()
            answering = run_whole(model, ids).float()
            inner.train()
            training = [run_whole(model, ids).float() for _ in range(2)]
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not bool(torch.isfinite(answering).all()):
        return  # the first step says so
    worst = max(
        _difference(each, other) for each, other in ((training[0], training[1]), (training[0], answering))
    )
    if not worst <= tolerance:
        raise UserError(
            f"{type(inner).__name__} computes something else while it is trained than while it answers (a relative difference of "
            f"{worst:.1e}, after every dropout known here was switched off), so the views of a step would differ by noise. Set "
            f"its dropout and jitter to 0 in config.json, or train another model."
        )


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))
