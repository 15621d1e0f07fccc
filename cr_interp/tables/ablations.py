"""Which part of the anchor does the work? All arms of those settings that were run with more than the paper's.

Mental model: an ablation is an arm like any other, run in some settings only. So this is :func:`setting_rows`
with every arm that there is, each compared with the baseline as NCA is, on the seeds and examples that both have.
"""

import pandas as pd

from cr_interp.study.study import Study
from cr_interp.tables.estimates import Kind
from cr_interp.tables.obedience import new_instruction
from cr_interp.tables.stored import stored
from cr_interp.tables.suite import ARMS, Suite, comparisons, setting_rows
from cr_interp.vocabulary import JUDGED, arm_order

_OBEYED = {"estimate": "new_instruction", "low": "new_instruction_low", "high": "new_instruction_high"}


def ablated(suite: Suite) -> Suite:
    """Return the settings that have answers of an arm beyond the paper's, and only these."""
    kept = {
        setting: study
        for setting, study in suite.studies.items()
        if study.has_table("generations") and set(study.table("generations")["arm"].unique()) - set(ARMS)
    }
    return Suite(suite.path, kept)


def ablation_arms(suite: Suite) -> list[str]:
    """Return every arm of these settings: base, opd, nca, then the others."""
    arms = {
        arm for study in ablated(suite).studies.values() for arm in study.table("generations")["arm"].unique()
    }
    return arm_order(arms)


def ablation_rows(
    suite: Suite, control: str = "exact", baseline: str = "opd", interval: Kind = "across"
) -> pd.DataFrame:
    """Return a row per setting and arm, as :func:`setting_rows` has it, and what it differs from the baseline by.

    For each of :data:`JUDGED`, ``<metric>_minus`` with its interval ``<metric>_minus_low, <metric>_minus_high`` is the
    paired difference from ``baseline``; NaN for the baseline itself, for ``base``, and where the two have no seed in common.
    ``new_instruction, new_instruction_low, new_instruction_high``: the share of prompts in which a new instruction is obeyed;
    NaN where that was not measured. Without ablations: no rows.
    """
    files = [study.table_path("generations") for study in suite.studies.values()]
    asked = [list(suite.studies), control, baseline, interval]
    return stored("ablation_rows", files, asked, lambda: _rows(suite, control, baseline, interval), suite.path)


def _rows(suite: Suite, control: str, baseline: str, interval: Kind) -> pd.DataFrame:
    mine = ablated(suite)
    arms = ablation_arms(suite)
    rows = setting_rows(mine, arms, control, interval)
    if rows.empty:
        return rows
    parts = [
        comparisons(mine, arm, baseline, control, interval).assign(arm=arm)
        for arm in arms
        if arm not in ("base", baseline)
    ]
    compared = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    for metric in JUDGED:
        names = {"estimate": f"{metric}_minus", "low": f"{metric}_minus_low", "high": f"{metric}_minus_high"}
        if compared.empty:
            rows = rows.assign(**dict.fromkeys(names.values(), float("nan")))
            continue
        of_metric = compared[compared["metric"] == metric].rename(columns=names)
        rows = rows.merge(of_metric[["setting", "arm", *names.values()]], on=["setting", "arm"], how="left")
    obeyed = pd.concat([_obeyed(study, name, interval) for name, study in mine.studies.items()])
    return rows.merge(obeyed, on=["setting", "arm"], how="left")


def _obeyed(study: Study, setting: str, interval: Kind) -> pd.DataFrame:
    found = new_instruction(study.table("generations"), interval=interval)
    if found.empty:
        return _none()
    found = found[found["seed"].isna() & (found["metric"] == "new_instruction")].assign(setting=setting)
    return found.rename(columns=_OBEYED)[["setting", "arm", *_OBEYED.values()]]


def _none() -> pd.DataFrame:
    return pd.DataFrame(columns=["setting", "arm", *_OBEYED.values()])
