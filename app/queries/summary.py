"""Sentences and small tables made from the tables of a study. Pure functions: no Streamlit, easy to test.

The headline is computed here, from paired differences and their intervals. "No loss" never means "equal", nor an interval
that touches 0: it means that the whole interval of the difference lies above −2 points, and the sentence says so.
"""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from cr_interp.statistics import MARGIN, not_lower
from cr_interp.tables.example_pairs import MARKS

Verdict = Literal["yes", "partly", "no", "open"]

SHORT = {
    "acc_x": "Acc_x", "acc_xc": "Acc_xc", "both_correct": "BothCorrect", "harm": "Harm", "rescue": "Rescue",
    "delta_len": "Δlen",
}  # fmt: skip
COMMON = "Harm on the prompts that both solve without the context"


@dataclass(frozen=True)
class Headline:
    """Did the arm reduce Harm without losing accuracy? A word, a sentence, and a line for each metric."""

    verdict: Verdict
    sentence: str
    numbers: tuple[str, ...]


def headline(metrics: pd.DataFrame, differences: pd.DataFrame, arm: str, baseline: str) -> Headline:
    """``metrics`` of both arms and ``differences`` arm − baseline, as ``cr_interp.tables.behaviour`` makes them.

    By the *across* intervals where there are several seeds; else by the *within* ones, and the sentence says "one seed".
    """
    change = {row.metric: row for row in differences[differences["seed"].isna()].itertuples()}
    harm = change.get("harm")
    if harm is None or pd.isna(harm.estimate):
        return Headline(
            "open", f"Harm of {arm} and {baseline} cannot be compared.", ("One of them has no right answers.",)
        )
    accuracies = [name for name in ("acc_x", "acc_xc") if name in change]
    lost = [SHORT[name] for name in accuracies if change[name].high < 0]
    unknown = [SHORT[name] for name in accuracies if not not_lower(change[name].low)]
    margin = f"{100 * MARGIN:g} points"
    verdict: Verdict
    if harm.high < 0 and not lost and not unknown:
        verdict, sentence = (
            "yes",
            f"{arm} has less Harm than {baseline}, and no accuracy is lost (by {margin} or more).",
        )
    elif harm.high < 0 and lost:
        verdict, sentence = "partly", f"{arm} has less Harm than {baseline}, but lower {' and '.join(lost)}."
    elif harm.high < 0:
        sentence = (
            f"{arm} has less Harm than {baseline}; whether {' and '.join(unknown)} is lost by {margin} is open."
        )
        verdict = "partly"
    elif harm.low > 0:
        verdict, sentence = "no", f"{arm} has more Harm than {baseline}."
    else:
        verdict = "open"
        sentence = f"It is open whether {arm} has less Harm than {baseline}: the interval contains zero."
        if lost:
            sentence += f" {arm} has lower {' and '.join(lost)}."
    if getattr(harm, "interval", "across") == "within":
        sentence += " This is one seed: the intervals are about other examples, and other seeds are not known."
    parts = []
    for name in ("harm", "harm_common", "acc_x", "acc_xc"):
        if name in change:
            before, after = (value(metrics, each, name) for each in (baseline, arm))
            row = change[name]
            from_to = "" if name == "harm_common" else f"{percent(before)} → {percent(after)}, "
            parts.append(
                f"{SHORT.get(name, COMMON)}: {from_to}difference {points(row.estimate)} "
                f"[{points(row.low, unit='')}, {points(row.high, unit='')}]{_p_values(row)}"
            )
    return Headline(verdict, sentence, tuple(part.replace("-", "−") for part in parts))


def _p_values(row: Any) -> str:
    """``, p 0.011 (t), 0.250 (sign flips)``; nothing with one seed."""
    p, flips = getattr(row, "p", None), getattr(row, "p_sign_flip", None)
    return "" if pd.isna(p) or pd.isna(flips) else f", p {p:.3f} (t), {flips:.3f} (sign flips)"


def value(metrics: pd.DataFrame, arm: str, metric: str) -> float:
    """Estimate over seeds; NaN if the table has none."""
    rows = metrics[(metrics["arm"] == arm) & (metrics["metric"] == metric) & metrics["seed"].isna()]
    return float(rows["estimate"].iloc[0]) if len(rows) else float("nan")


def change(differences: pd.DataFrame, metric: str) -> float:
    """Difference over seeds; NaN if the table has none."""
    rows = differences[(differences["metric"] == metric) & differences["seed"].isna()]
    return float(rows["estimate"].iloc[0]) if len(rows) else float("nan")


def metric_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """An arm a row, a metric a column, each cell ``estimate [low, high]`` over seeds, in %."""
    pooled = metrics[metrics["seed"].isna()]
    cells = pooled.assign(
        cell=[
            "–"
            if pd.isna(row.estimate)
            else f"{percent(row.estimate, '')} [{percent(row.low, '')}, {percent(row.high, '')}]".replace(
                "-", "−"
            )
            for row in pooled.itertuples()
        ]
    )
    table = cells.pivot_table(index="arm", columns="metric", values="cell", aggfunc="first", sort=False)
    names = [name for name in SHORT if name in table]
    table = table.loc[list(dict.fromkeys(pooled["arm"])), names]
    return table.rename(columns={name: f"{SHORT[name]} (%)" for name in names}).reset_index(names="arm")


def percent(share: float, unit: str = " %") -> str:
    """``97.3 %``; a dash if there is no value."""
    return "–" if pd.isna(share) else f"{round(100 * share, 1) + 0.0:.1f}{unit}"


def points(difference: float, unit: str = " points") -> str:
    """A difference of shares in percentage points, with its sign; the minus is ASCII, as st.metric needs."""
    return "–" if pd.isna(difference) else f"{round(100 * difference, 1) + 0.0:+.1f}{unit}"


# -- configuration -------------------------------------------------------------------------------------------


def configuration(manifest: dict[str, Any], arms: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``(differences, shared)``: settings that differ between arms, an arm a column; and those that all share."""
    declared = manifest.get("arms")
    declared = declared if isinstance(declared, dict) else {}
    per_arm = {arm: flatten(declared.get(arm) or {}) for arm in arms}
    trained = [arm for arm in arms if per_arm[arm]]
    settings = list(dict.fromkeys(key for arm in trained for key in per_arm[arm]))
    rows, same = [], {}
    for key in settings:
        values = [per_arm[arm].get(key, "–") for arm in trained]
        if len(set(values)) > 1 or len(trained) == 1:
            cells = {arm: per_arm[arm].get(key, "–") if per_arm[arm] else "not trained" for arm in arms}
            rows.append({"setting": "objective" if key == "terms" else key, **cells})
        else:
            same[key] = values[0]
    shared = {"task": manifest.get("task"), "model": manifest.get("model"), **same}
    for part in ("training", "evaluation", "context", "no_context"):
        shared.update(flatten({part: manifest.get(part)}))
    return pd.DataFrame(rows, columns=["setting", *arms]), _settings(shared)


def provenance(manifest: dict[str, Any]) -> pd.DataFrame:
    """Where a study comes from: settings that the configuration does not hold."""
    keys = (
        "name", "created", "finished", "model", "model_fingerprint", "teacher_fingerprint",
        "tokenizer_fingerprint", "seeds", "git_revision", "versions", "schema_version",
    )  # fmt: skip
    return _settings({name: text for key in keys for name, text in flatten({key: manifest.get(key)}).items()})


def flatten(data: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as ``a.b → text``; a list of plain values is one text, ``None`` is left out."""
    if isinstance(data, dict):
        found: dict[str, str] = {}
        for key, item in data.items():
            found.update(flatten(item, f"{prefix}.{key}" if prefix else str(key)))
        return found
    if isinstance(data, list) and any(isinstance(item, dict) for item in data):
        return flatten({str(index): item for index, item in enumerate(data)}, prefix)
    if data is None or data == []:
        return {}
    if isinstance(data, list):
        return {prefix: (" + " if prefix.endswith("terms") else ", ").join(map(str, data))}
    return {prefix: str(data)}


def _settings(data: dict[str, Any]) -> pd.DataFrame:
    rows = [(key, str(text)) for key, text in data.items() if text not in (None, "")]
    return pd.DataFrame(rows, columns=["setting", "value"])


# -- answers -------------------------------------------------------------------------------------------------


def answers(
    generations: pd.DataFrame, arms: list[str], control: str, seed: int, harmed_under: str | None = None
) -> pd.DataFrame:
    """A prompt a row; for every arm its response without and with the context, each behind a mark.

    An arm that was run with one seed only (``base``) shows that one. ``harmed_under`` keeps the prompts that
    this arm answers right without the context and wrong with it.
    """
    rows = generations[generations["sample"] == generations["sample"].min()]
    table = rows.groupby("example_id", sort=True)["prompt"].first().to_frame()
    harmed = None
    for arm in arms:
        mine = rows[rows["arm"] == arm]
        seeds = mine["seed"].unique()
        mine = mine[mine["seed"] == (seed if seed in seeds or len(seeds) != 1 else seeds[0])]
        mine = mine[mine["step"] == mine["step"].max()]
        views = {
            "without": mine[mine["view"] == "no_context"],
            "with": mine[(mine["view"] == "with_context") & (mine["control"] == control)],
        }
        right = {}
        for view, part in views.items():
            part = part.drop_duplicates("example_id").set_index("example_id")
            right[view] = (part["outcome"] == "right").reindex(table.index)
            text = part["outcome"].map(MARKS).fillna("?").astype(str) + " " + part["response"].astype(str)
            table[f"{arm} · {view}"] = text.reindex(table.index).fillna("")
        if arm == harmed_under:
            harmed = right["without"].eq(True) & right["with"].eq(False)
    return (table if harmed is None else table[harmed]).reset_index()
