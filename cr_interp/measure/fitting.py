"""So many examples at a time as memory holds: halve the batch where it runs out.

Mental model. How many sequences fit depends on their lengths and on the machine, and nobody knows it beforehand. A batch's size
changes no number but for rounding, so what does not fit is done again with half as many at a time, and that is said once.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from cr_interp.errors import UserError
from cr_interp.measure.subject import Subject
from cr_interp.system.notes import say

Made = TypeVar("Made")


def fitting(subject: Subject, make: Callable[[Subject], Made]) -> Made:
    """Give what ``make`` makes of the questions, with the evaluation's batch or the largest half of halves that fits.

    Raises what ``make`` raises where a single example does not fit, or where it was not for memory.
    """
    while True:
        try:
            return make(subject)
        except (RuntimeError, MemoryError, UserError) as error:
            size = subject.evaluation.batch_size // 2
            if not size or not _of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        subject = replace(subject, evaluation=subject.evaluation.model_copy(update={"batch_size": size}))
        say(f"Memory ran out: going on with {size} examples at a time.")


def _of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in str(error).lower()
