"""Threads for a run's sums, no more than this machine can begin.

Mental model. The library that spreads a matrix product over threads ends the whole process, without a word of Python, where the
system refuses one more thread. More threads than cores only wait for each other, so a number far beyond is a slip.
"""

import os

from cr_interp.errors import UserError

#: Threads that a core is given at most: a study of a large machine can still be made again on a small one, with its bits.
A_CORE = 64


def too_many_threads(number: int) -> str | None:
    """Say why so many threads are not begun here; None if they can be."""
    cores = os.cpu_count() or 1
    if number <= A_CORE * cores:
        return None
    return (
        f"threads = {number}, and this machine has {cores} cores: so many only wait for each other, and where the system refuses "
        f"one the process ends. Take at most {A_CORE * cores}; {cores} is as fast."
    )


def use_threads(number: int) -> None:
    """Compute with so many threads from now on. Raises :class:`UserError` for more than :data:`A_CORE` a core."""
    import torch

    if wrong := too_many_threads(number):
        raise UserError(wrong)
    torch.set_num_threads(number)
