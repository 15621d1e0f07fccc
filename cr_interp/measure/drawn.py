"""Which examples an evaluation asks: a draw of the split, without what another draw has shown.

Mental model. A claim that has been looked at on some items is put to the test on others. Items that are not independent of those
seen (frames of one phrase, mirror images of one board) go with them: whole clusters are left out.
"""

import hashlib
from collections.abc import Iterable

from cr_interp.errors import UserError
from cr_interp.measure.settings import Drawn, Evaluation
from cr_interp.tasks.base import Example, Split, Task


def drawn(task: Task, evaluation: Evaluation) -> list[Example]:
    """Draw the evaluation's examples, in its order.

    Raises :class:`UserError` if the split has too few that were not seen; the task's own error if it has too few at all.
    """
    n, seed = evaluation.examples, evaluation.seed
    if evaluation.leave_out is None:
        return task.examples(evaluation.split, n, seed)
    seen = {each.cluster for each in _first(task, evaluation.split, evaluation.leave_out)}
    left: list[Example] = []
    asked, before = n, -1
    while len(left) < n:
        found = _first(task, evaluation.split, Drawn(seed=seed, examples=asked))
        left = [each for each in found if each.cluster not in seen][:n]
        if len(found) == before:  # all there are
            raise UserError(
                f"The {evaluation.split} split of task '{task.name}' has {len(left)} examples beside those of draw "
                f"{evaluation.leave_out.seed}, and {n} were asked for. Ask for {len(left)} at most (evaluation.examples)."
            )
        before, asked = len(found), 2 * asked
    return left


def digest_of_items(items: Iterable[Example]) -> str:
    """Compute the SHA-256 of the examples' ids, one a line: what is committed to before anything is asked."""
    return hashlib.sha256("\n".join(each.id for each in items).encode()).hexdigest()


def _first(task: Task, split: Split, draw: Drawn) -> list[Example]:
    try:
        return task.examples(split, draw.examples, draw.seed)
    except UserError:  # fewer than that
        return task.examples(split, None, draw.seed)
