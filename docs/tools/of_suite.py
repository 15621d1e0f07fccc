"""Every number of the suite that a page may cite: settings, claims, flips, ablations, training."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from of_study import ARMS
from values import Value, spelt, value_of

from cr_interp.report.suite import markdown_tables
from cr_interp.study.rows import last_step
from cr_interp.system.visible import in_markdown
from cr_interp.tables.ablations import ablation_rows
from cr_interp.tables.claims import count_claims
from cr_interp.tables.estimates import Kind
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.obedience import new_instruction
from cr_interp.tables.suite import (
    SETTINGS,
    Suite,
    comparisons,
    open_suite,
    setting_rows,
    suite_drift,
    suite_training,
)

SUITE = "suite"


def suite_intervals() -> str:
    return f"Intervals in brackets are 95 %: {in_markdown(said_intervals(suite_rows()))}."


@cache
def suite() -> Suite:
    return open_suite(SUITE)


@cache
def suite_rows() -> pd.DataFrame:
    return setting_rows(suite(), ARMS)


@cache
def suite_differences(interval: Kind = "across") -> pd.DataFrame:
    return comparisons(suite(), interval=interval)


@cache
def suite_ablations() -> pd.DataFrame:
    return ablation_rows(suite())


def claims(text: str) -> tuple[int, int, tuple[str, ...]]:
    """Count in how many settings, of how many, a claim of the suite's table holds, and name them."""
    table = count_claims(suite_differences())
    found = table[table["claim"].str.fullmatch(text)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} claims are '{text}': {list(table['claim'])}")
    row = found.iloc[0]
    return int(row["k"]), int(row["of"]), tuple(row["settings"])


def setting(name: str, arm: str, of: str) -> Value:
    """Return a metric of a setting's arm over seeds."""
    rows = suite_rows()
    row = rows[(rows["setting"] == name) & (rows["arm"] == arm)].iloc[0]
    return Value(
        float(row[of]), float(row[f"{of}_low"]), float(row[f"{of}_high"]), int(row["n"]), str(row["interval"])
    )


def setting_regime(name: str, arm: str) -> str:
    rows = suite_rows()
    return str(rows[(rows["setting"] == name) & (rows["arm"] == arm)].iloc[0]["regime"])


def paired(name: str, of: str, interval: Kind = "across") -> Value:
    """Return ``nca`` minus ``opd`` in a setting."""
    rows = suite_differences(interval)
    return value_of(rows[(rows["setting"] == name) & (rows["metric"] == of)], f"{name} {of}")


def paired_both(name: str, of: str) -> str:
    return spelt(paired(name, of, "within"), paired(name, of, "across"))


def settings_where(of: str, sign: int, beyond: bool, interval: Kind = "across") -> list[str]:
    """Return the settings in which nca − opd has this sign; ``beyond``: and its interval excludes 0."""
    rows = suite_differences(interval)
    rows = rows[(rows["metric"] == of) & (np.sign(rows["estimate"]) == sign)]
    if beyond:
        rows = rows[rows["excludes_zero"].astype(bool)]
    return [str(each) for each in rows["setting"]]


@cache
def flips(name: str, arm: str) -> tuple[int, int]:
    """Return (answers that the context made wrong, answers that were right without it), all seeds together."""
    rows = last_step(suite().studies[name].table("generations"))
    rows = rows[(rows["split"] == "test") & (rows["arm"] == arm) & rows["control"].isin(["none", "exact"])]
    right = rows.assign(right=rows["outcome"] == "right").pivot_table(
        "right", ["seed", "example_id", "sample"], "view", aggfunc="first"
    )
    before = right["no_context"].astype(bool)
    return int((before & ~right["with_context"].astype(bool)).sum()), int(before.sum())


def ablation(name: str, arm: str, of: str) -> Value:
    rows = suite_ablations()
    row = rows[(rows["setting"] == name) & (rows["arm"] == arm)].iloc[0]
    return Value(float(row[of]), float(row[f"{of}_low"]), float(row[f"{of}_high"]), int(row["n"]))


@cache
def _lowest(of: str) -> pd.DataFrame:
    table = suite_drift(suite(), of).groupby(["setting", "arm"], sort=False)["estimate"]
    return (table.max() if of == "relative_l2" else table.min()).unstack()


def ordered(of: str, lower: str, higher: str) -> list[str]:
    """Return the settings in which the worst layer of ``lower`` is worse than that of ``higher``."""
    table = _lowest(of)
    first, second = (table[lower], table[higher]) if of != "relative_l2" else (table[higher], table[lower])
    return [str(each) for each in table.index[first < second]]


def lowest_range(of: str, arm: str) -> tuple[float, float]:
    """Return the smallest and largest worst-layer value of an arm over the settings."""
    return float(_lowest(of)[arm].min()), float(_lowest(of)[arm].max())


@cache
def _training() -> pd.DataFrame:
    return suite_training(suite())


def while_training(of: str, arm: str, step: int, settings: Iterable[str]) -> float:
    """Return a metric on the validation split at a step, mean over seeds and then over these settings."""
    rows = _training()
    rows = rows[(rows["arm"] == arm) & (rows["step"] == step) & rows["setting"].isin(list(settings))]
    return float(rows.astype({of: float}).groupby("setting")[of].mean().mean())


def unharmed(few: int = 10) -> list[str]:
    """Return the settings in which at most a few answers flip under ``opd``."""
    return [name for name in suite_settings() if flips(name, "opd")[0] < few]


def suite_settings() -> list[str]:
    return [name for name in SETTINGS if name in suite().studies]


def most_flips(settings: Iterable[str]) -> int:
    return max(flips(name, "opd")[0] for name in settings)


def max_length(arm: str) -> float:
    """Return the largest change of the mean length over the settings."""
    rows = suite_rows()
    return float(rows.loc[rows["arm"] == arm, "delta_len"].abs().max())


def obeyed_less() -> dict[str, Any]:
    """Find where a new instruction is obeyed less under nca than under opd, and the farthest and the closest setting."""
    found = {}
    for name, each in suite().studies.items():
        table = new_instruction(each.table("generations"), resamples=2)
        if table.empty:
            continue
        rows = table[(table["metric"] == "new_instruction") & table["seed"].isna()].set_index("arm")["estimate"]
        if {"opd", "nca"} <= set(rows.index):
            found[name] = (name, float(rows["opd"]), float(rows["nca"]))
    gaps = sorted(found.values(), key=lambda row: row[1] - row[2])
    lower = [name for name, opd, nca in found.values() if nca < opd]
    return {"all": list(found), "lower": lower, "most": gaps[-1], "least": gaps[0]}


def highest(name: str, arms: Iterable[str], of: str) -> float:
    """Return the highest estimate among some arms of a setting that has ablations."""
    return max(ablation(name, arm, of).estimate for arm in arms)


def suite_markdown() -> str:
    return markdown_tables(suite(), suite_rows(), suite_differences(), suite_ablations())
