"""Several processes that train one model: sums over all of them, which one writes, and how a step passes through DDP and FSDP.

Mental model. Each process has an equal part of a step's batch. A step's means, and the numbers that are logged, run over the
whole batch (:func:`summed`). DDP and FSDP work around the outermost module's ``forward``: they gather shards before it and
average gradients after it. A step here consists of several forwards of the backbone and of the head. So ``forward`` is taught
one more call: ``model(step=f)`` runs ``f()`` inside it (:func:`inside`).

With one process all of this does nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import distributed, nn

from cr_interp.errors import UserError
from cr_interp.models.devices import chosen_device
from cr_interp.models.shards import is_sharded

Result = TypeVar("Result")
Question = TypeVar("Question")
Answer = TypeVar("Answer")


def join() -> None:
    """Join the group of processes that a launcher (``accelerate launch``, ``torchrun``) has started."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(cpu=chosen_device().type == "cpu")


def processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Tell whether this process is the one that writes."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def wait() -> None:
    """Wait until every process is here."""
    if distributed.is_initialized():
        distributed.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process first, then in the others: for a folder that is made, or a file that is written once."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def summed(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Sum each number over the processes. All processes have to give the same names."""
    if processes() == 1:
        return values
    # float64 holds counts of tokens exactly.
    tensor = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    return dict(zip(sorted(values), tensor.tolist(), strict=True))


def ask_main(question: Question, answer: Callable[[list[Question]], list[Answer]]) -> Answer:
    """Let the main process answer the questions of all processes, in the order of their ranks; each process gets its own
    answer.

    Questions and answers have to be picklable. An error in the main process is raised in every process, so that none waits
    for ever.
    """
    if processes() == 1:
        return answer([question])[0]
    asked: list[Any] = [None] * processes()
    distributed.all_gather_object(asked, question)
    outcome: list[Any] = [None]
    if is_main():
        try:
            outcome = [answer(asked)]
        except UserError as error:
            outcome = [error]
        except Exception as error:  # it may hold what cannot be sent
            outcome = [RuntimeError(f"{type(error).__name__}: {error}")]
    distributed.broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0][distributed.get_rank()]  # type: ignore[no-any-return]


def teach_forward(model: nn.Module) -> None:
    """Let a model's forward take a step: ``model(step=f)`` returns ``f()``. Every other call stays as it was."""
    plain = model.forward

    def forward(*arguments: Any, step: Callable[[], Any] | None = None, **options: Any) -> Any:
        return plain(*arguments, **options) if step is None else step()

    model.forward = forward


def inside(model: nn.Module, step: Callable[[], Result]) -> Result:
    """Run ``step()`` within the forward of a (wrapped) model that :func:`teach_forward` has seen."""
    return step() if processes() == 1 else model(step=step)


def gathering(model: nn.Module, step: Callable[[], Result]) -> Result:
    """Run ``step()`` while the weights outside the layers of a sharded model (embedding, final norm, head) are whole."""
    return model(step=step) if is_sharded(model) else step()


def per_process(batch: int, micro: int | None) -> tuple[int, int]:
    """Divide a step's batch: how many rows a process reads at once, and how often in a step.

    Raises :class:`UserError` if the batch cannot be divided into equal parts: a step must not depend on the number of
    processes.
    """
    n = processes()
    rows = micro or batch // n
    if rows == 0 or batch % (rows * n):
        raise UserError(
            f"training.batch_size = {batch} cannot be divided among {n} processes"
            + (f" with training.micro_batch = {micro}" if micro else "")
            + f". It has to be a multiple of {n * (micro or 1)}."
        )
    return rows, batch // (rows * n)
