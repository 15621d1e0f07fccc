"""Where a pre-training is, on disk: weights, the optimizers' tensors and the step, as one safetensors file.

The lessons are a function of the configuration and the step, so nothing else has to be kept; a run that is stopped and
typed again ends in the same weights, bit for bit.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cr_interp.errors import UserError
from cr_interp.files import write_atomic


def save_state(
    path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int, config: str
) -> None:
    """Save that ``step`` steps are done; ``config`` is what they were done with."""
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{number}.{index}.{name}": value for name, value in state.items()}
    content = save(
        {name: value.contiguous() for name, value in tensors.items()}, {"step": str(step), "config": config}
    )
    write_atomic(path, lambda file: file.write(content))


def load_state(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], config: str) -> int:
    """Put everything back and return how many steps were done; 0 if there is nothing to put back.

    Raises :class:`UserError` if the file is of another configuration.
    """
    if not path.is_file():
        return 0
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        noted, step = about["config"], int(about["step"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error
    if noted != config:
        raise UserError(
            f"{path} was left by a pre-training with another configuration: {noted}. Give another folder "
            f"with --out, or remove the file."
        )
    try:
        _put_back(tensors, model, optimizers)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise _damaged(path, error) from error
    return step


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}, where a pre-training was stopped, is damaged ({type(error).__name__}: {str(error)[:200]}). Remove the file; "
        f"the pre-training then begins anew."
    )


def _put_back(tensors: dict[str, Tensor], model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    for number, optimizer in enumerate(optimizers):
        whole = optimizer.state_dict()
        for key, value in tensors.items():
            if key.startswith(f"{number}."):
                _, index, name = key.split(".", 2)
                whole["state"].setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(whole)
