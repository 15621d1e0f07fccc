"""Several processes that train one model: what is the sum of all of them, who writes, and how a step meets DDP and FSDP.

Mental model. A step's batch is cut into as many parts as there are processes; its means run over all of it
(:func:`summed`), and so does what is logged. DDP and FSDP do their work around the outermost module's ``forward``: they
gather shards before it and average gradients after it. A step here is several forwards of the backbone and of the head,
so ``forward`` is taught one more thing: ``model(step=f)`` runs ``f()`` inside of it (:func:`inside`).

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
    """Form the group that a launcher (``accelerate launch``, ``torchrun``) has started this process for."""
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
    """Run the block in the main process first, then in the others (a folder that is made, a file that is read)."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def summed(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Sum each number over the processes; all of them have to have the same names."""
    if processes() == 1:
        return values
    # float64 holds counts of tokens exactly.
    tensor = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    return dict(zip(sorted(values), tensor.tolist(), strict=True))


def ask_main(question: Question, answer: Callable[[list[Question]], list[Answer]]) -> Answer:
    """Let the main process answer the questions of all, in their ranks' order; each process gets its own answer.

    Both have to be picklable. What goes wrong there is raised in every process, so that none waits for the others for ever.
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
    """Teach a model that ``model(step=f)`` is ``f()``; any other call stays what it was."""
    plain = model.forward

    def forward(*arguments: Any, step: Callable[[], Any] | None = None, **options: Any) -> Any:
        return plain(*arguments, **options) if step is None else step()

    model.forward = forward


def inside(model: nn.Module, step: Callable[[], Result]) -> Result:
    """Run ``step()`` within the forward of a (wrapped) model that :func:`teach_forward` has seen."""
    return step() if processes() == 1 else model(step=step)


def gathering(model: nn.Module, step: Callable[[], Result]) -> Result:
    """Run ``step()`` while the parts of a sharded model that lie outside its layers are whole."""
    return model(step=step) if is_sharded(model) else step()


def per_process(batch: int, micro: int | None) -> tuple[int, int]:
    """Divide a step's batch: rows that a process reads at once, and how often in a step.

    Raises :class:`UserError` if the batch cannot be divided so: a step is the same whatever it is run on.
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
