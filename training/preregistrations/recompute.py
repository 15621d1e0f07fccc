"""The result of a preregistered suite, computed again from its raw answers: ``python recompute.py SUITE [PLAN.yaml]``.

Shares no code with the project, so that an error in its tables cannot hide here: reads ``generations.parquet`` and nothing else,
and knows only what the preregistration's page says. Harm is the share of prompts, of those that a run answers right without the
context, that it answers wrong with it. Seeds are paired: of each the difference nca − opd, then Student's t over seeds, and Holm
over settings.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import t as student

ARM, BASELINE = "nca", "opd"
PLAN = Path(__file__).with_name("suite-2.yaml")


def right_in_both_views(file: Path, arm: str) -> pd.DataFrame:
    """Read a row per seed and prompt: right without the context (``x``), right with it (``c``); at the last step."""
    rows = pd.read_parquet(file, columns=["arm", "seed", "step", "split", "example_id", "control", "outcome"])
    rows = rows[(rows["arm"] == arm) & (rows["split"] == "test") & rows["control"].isin(["none", "exact"])]
    rows = rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]
    rows = rows.assign(right=rows["outcome"] == "right", view=rows["control"].map({"none": "x", "exact": "c"}))
    return rows.pivot(index=["seed", "example_id"], columns="view", values="right").astype(bool)


def differences(file: Path) -> pd.DataFrame:
    """Compute nca − opd of every seed: ``harm``, ``common`` (prompts that both answer right without the context), ``acc_x``."""
    parts = [
        right_in_both_views(file, arm).add_suffix(f"_{name}") for arm, name in ((ARM, "arm"), (BASELINE, "base"))
    ]
    both = parts[0].join(parts[1], how="inner")
    found = {}
    for seed, rows in both.groupby("seed"):
        arm, base = rows[rows["x_arm"]], rows[rows["x_base"]]
        common = rows[rows["x_arm"] & rows["x_base"]]
        found[seed] = {
            "harm": (~arm["c_arm"]).mean() - (~base["c_base"]).mean(),
            "common": (~common["c_arm"]).mean() - (~common["c_base"]).mean(),
            "acc_x": rows["x_arm"].mean() - rows["x_base"].mean(),
        }
    return pd.DataFrame(found).T


def over_seeds(values: pd.Series) -> tuple[float, float, float]:
    """Return the mean, the lower end of its 95 % interval and p, by Student's t. Equal differences cannot be tested."""
    n, mean, sd = len(values), float(values.mean()), float(values.std(ddof=1))
    if n < 2 or sd == 0:
        return mean, mean, 1.0 if mean == 0 else math.nan
    error = sd / math.sqrt(n)
    return mean, mean - student.ppf(0.975, n - 1) * error, 2 * student.sf(abs(mean / error), n - 1)


def after_holm(p: pd.Series) -> pd.Series:
    """Multiply the smallest p by how many there are, the next by one fewer, and let none fall below the one before it."""
    ordered = p.dropna().sort_values()
    return (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1.0).reindex(p.index)


def results(suite: Path) -> pd.DataFrame:
    """Compute a row per setting: the three differences, Harm's p before and after Holm, the lower end of Acc_x's interval."""
    rows = {}
    for file in sorted(suite.glob("*/tables/generations.parquet")):
        found = differences(file)
        harm, _, p = over_seeds(found["harm"])
        acc_x, low, _ = over_seeds(found["acc_x"])
        rows[file.parts[-3]] = {
            "seeds": len(found), "harm": harm, "p": p, "common": found["common"].mean(), "acc_x": acc_x, "acc_x_low": low,
        }  # fmt: skip
    table = pd.DataFrame(rows).T
    table.insert(3, "p_holm", after_holm(table["p"]))
    return table


def counts(table: pd.DataFrame, rule: dict[str, float]) -> pd.DataFrame:
    """Count the settings of each criterion, and those that are needed: of fewer settings than planned, the same share."""
    k = len(table)
    holds = {
        "lower": table["harm"] < 0,
        "holm": (table["harm"] < 0) & (table["p_holm"] < 0.05),
        "not_lower": table["acc_x_low"] > -rule["margin"],
        "common": table["common"] < 0,
    }
    rows = {
        name: (int(found.sum()), -(-int(rule[name]) * k // int(rule["of"])), k) for name, found in holds.items()
    }
    return pd.DataFrame(rows, index=["holds in", "needed", "of"]).T


def verdict(found: pd.DataFrame, rule: dict[str, float]) -> str:
    if (found["holds in"] >= found["needed"]).all():
        return "success"
    at_most = int(rule["failure"]) * int(found["of"].iloc[0]) // int(rule["of"])
    return "failure" if found.loc["lower", "holds in"] <= at_most else "inconclusive"


if __name__ == "__main__":
    plan = yaml.safe_load((Path(sys.argv[2]) if len(sys.argv) > 2 else PLAN).read_text(encoding="utf-8"))
    of_settings = results(Path(sys.argv[1]))
    of_claims = counts(of_settings, plan["success"])
    print(
        of_settings.round(4).to_string(), of_claims.to_string(), verdict(of_claims, plan["success"]), sep="\n\n"
    )
