"""The studies that are here, a row each: what they are about, what is known of them, and what they lack.

Mental model: the shelf is read from manifests, from the names of files, and from verdicts that were computed before; it
compares nothing itself, so it opens at once, however many studies there are.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from app.queries.state import answer_files, arms_of, controls_of, seeds_of
from app.sidebar import default_pair
from cr_interp.errors import UserError
from cr_interp.report.verdict import Verdict, headline
from cr_interp.study.analyses import ANALYSES
from cr_interp.study.study import Study
from cr_interp.tables.stored import peek
from cr_interp.tables.verdict_rows import is_deafer, is_keyless, keyless_verdict
from cr_interp.vocabulary import JUDGED

COLUMNS = ("study", "task", "model", "arms", "seeds", "verdict", "lacks")
WORDS: dict[Verdict, str] = {"yes": "Yes", "partly": "Partly", "no": "No", "open": "Not shown"}
UNSEEN = "open it to see"


def shelf(studies: dict[str, Path]) -> pd.DataFrame:
    """Return a row per study; one that cannot be opened says why in ``lacks``."""
    return pd.DataFrame([_row(name, path) for name, path in studies.items()], columns=COLUMNS)


def _row(name: str, path: Path) -> dict[str, Any]:
    try:
        study = Study.open(path)
        arms = arms_of(study)
    except UserError as error:
        return {"study": name, "lacks": str(error)}
    return {
        "study": name,
        "task": _text(study.manifest.get("task")),
        "model": _text(study.manifest.get("model")),
        "arms": ", ".join(arms),
        "seeds": len(seeds_of(study)),
        "verdict": verdict_words(study, arms),
        "lacks": _some(lacks(study)),
    }


def verdict_words(study: Study, arms: list[str]) -> str:
    """Return the verdict on the two arms that are compared at first, if it was computed before: ``nca with opd: Yes, but
    deafer``.
    """
    if len(arms) < 2 or not study.has_table("generations"):
        return "–"
    arm, baseline = (arms[place] for place in default_pair(arms))
    control = next(iter(controls_of(study)), "exact")
    rows = peek("verdict_rows", answer_files(study), [arm, baseline, control, None], study.path)
    return UNSEEN if rows is None else f"{arm} with {baseline}: {badge(rows, arm, baseline)}"


def badge(rows: pd.DataFrame, arm: str, baseline: str) -> str:
    """Return the verdict in words, from its rows."""
    if is_keyless(rows):
        return in_words(keyless_verdict(rows, arm, baseline)[0], rows)
    differences = rows.assign(seed=pd.array([pd.NA] * len(rows), dtype="Int64"))
    differences = differences[differences["metric"].isin(JUDGED)]
    metrics = pd.DataFrame(columns=["arm", "seed", "metric", "estimate"])
    return in_words(headline(metrics, differences, arm, baseline).verdict, rows)


def in_words(verdict: Verdict, rows: pd.DataFrame) -> str:
    """Return the badge: ``Yes``, ``Yes, but deafer``, ``No, and deafer``; ``rows`` are the verdict's."""
    gained = verdict in ("yes", "partly")
    return WORDS[verdict] + (f", {'but' if gained else 'and'} deafer" if is_deafer(rows) else "")


def lacks(study: Study) -> list[str]:
    """Return tables that no analysis has filled yet, and checkpoints where there are none."""
    tables = ["generations", *(analysis.table for analysis in ANALYSES)]
    missing = [name for name in dict.fromkeys(tables) if not study.has_table(name)]
    return ([] if any(True for _ in study.checkpoints()) else ["checkpoints"]) + missing


def _some(names: list[str], shown: int = 3) -> str:
    """Return the first few of a list, and how many more."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) + more) or "–"


def _text(value: object) -> str:
    return "–" if value in (None, "") else str(value)
