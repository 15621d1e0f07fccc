"""Where a run ends: after its steps, or earlier at its plateau.

Mental model. A run's curve is the accuracy without context at each evaluation of ``train.jsonl``. It is flat where the mean of
the last ``window`` evaluations is less than ``gain`` above the mean of the ``window`` before. A run that is told so stops there;
whoever asks later whether the run is finished works out the same step from the same rows. No torch here.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cr_interp.files import read_jsonl
from cr_interp.study.places import log_of
from training.settings import Plateau, Training


def steps_to_plateau(steps: Sequence[int], acc_x: Sequence[float], rule: Plateau) -> int | None:
    """Find the first evaluated step at which the curve has reached its plateau; None if it never does.

    >>> steps_to_plateau([0, 20, 40, 60, 80, 100], [0, .3, .9, .9, .9, .9], Plateau(window=2, gain=.01))
    100
    """
    w = rule.window
    for end in range(2 * w, len(acc_x) + 1):
        now, before = acc_x[end - w : end], acc_x[end - 2 * w : end - w]
        if sum(now) / w - sum(before) / w < rule.gain:
            return steps[end - 1]
    return None


def curve(rows: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """Step → accuracy without context, of the rows of ``train.jsonl``."""
    return {
        int(row["step"]): float(row["acc_x"])
        for row in rows
        if row.get("kind") == "eval" and row.get("acc_x") is not None
    }


def end_of(rows: Iterable[Mapping[str, Any]], chosen: Training) -> int:
    """Find the step at which a run with these rows ends, as far as they tell: its plateau, or all of its steps."""
    if chosen.plateau is None:
        return chosen.steps
    seen = curve(rows)
    return steps_to_plateau(list(seen), list(seen.values()), chosen.plateau) or chosen.steps


def final_step(run_path: Path, chosen: Training) -> int:
    """Find the step at which the run in a folder ends, as far as its log tells."""
    return chosen.steps if chosen.plateau is None else end_of(read_jsonl(log_of(run_path)), chosen)
