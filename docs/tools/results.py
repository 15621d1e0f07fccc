"""Every number that a page may cite, looked up in the bundled studies.

Mental model: a page is a template, and what stands between its braces is a call of a function here. So a number in the
text is the table's, by construction; nothing is typed twice. A :class:`Value` is an estimate with its interval and knows
how it is written: in per cent, in points, or plain.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from cr_interp.report.suite import markdown_tables
from cr_interp.study.rows import last_step
from cr_interp.study.searching import open_study
from cr_interp.study.study import Study
from cr_interp.system.visible import in_markdown
from cr_interp.tables.ablations import ablation_rows
from cr_interp.tables.behaviour import differences, harm_on_common, regimes
from cr_interp.tables.claims import count_claims
from cr_interp.tables.controls import control_table, worst
from cr_interp.tables.estimates import Kind
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.metrics import metric_table
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

#: Studies of the results pages, in the order of the site.
STUDIES = ("organism-shift", "organism-swap", "smollm2-sentiment", "smollm2-wordclass")
SUITE = "suite"
ARMS = ("base", "opd", "nca")
#: Between a number and its unit.
NBSP = "\u00a0"


@dataclass(frozen=True)
class Value:
    """An estimate, its 95 % interval (NaN where there is none) with its kind, and the number of things it was counted on."""

    estimate: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    kind: str = ""

    @property
    def exists(self) -> bool:
        return not np.isnan(self.estimate)

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def pct(self) -> str:
        """As a share: ``22.1 %``."""
        return f"{percent(self.estimate)}{NBSP}%" if self.exists else "–"

    @property
    def pct_ci(self) -> str:
        return f"{self.pct} {self.ends(percent)}".strip()

    @property
    def points(self) -> str:
        """As a difference of shares, with its sign: ``−22.1 points``."""
        return f"{percent(self.estimate, sign=True)} points" if self.exists else "–"

    @property
    def points_ci(self) -> str:
        return f"{self.points} {self.ends(percent)}".strip()

    @property
    def plain(self) -> str:
        return plain(self.estimate)

    @property
    def plain_ci(self) -> str:
        return f"{self.plain} {self.ends(plain)}".strip()

    def ends(self, write: Any) -> str:
        if np.isnan(self.low) or np.isnan(self.high):
            return ""
        return f"[{write(self.low)}, {write(self.high)}]"


def percent(share: float, sign: bool = False) -> str:
    """A share in per cent to one digit, with a true minus sign; what rounds to zero has no sign."""
    value = round(100 * share, 1) + 0.0
    return (f"{value:+.1f}" if sign and value else f"{value:.1f}").replace("-", "−")


def plain(value: float, digits: int = 3) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def times(ratio: float) -> str:
    """A ratio of two distances, to one digit below ten; nothing finer is meant."""
    return f"{ratio:.1f}"


def listed(items: Iterable[Any], word: str = "and") -> str:
    """``a, b and c``."""
    names = [str(item) for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else "none"


def code(names: Iterable[str]) -> list[str]:
    return [f"`{name}`" for name in names]


def intervals(name: str) -> str:
    """Say which intervals a study's table shows, in the words of the tables themselves."""
    table = metrics(name)
    return f"Intervals in brackets are 95 %: {in_markdown(said_intervals(table[table['seed'].isna()]))}."


def suite_intervals() -> str:
    return f"Intervals in brackets are 95 %: {in_markdown(said_intervals(suite_rows()))}."


def spelt(difference: Value, other: Value) -> str:
    """A difference with both of its intervals: ``−22.1 points (within [−29, −16], across [−33, −11])``."""
    return (
        f"{difference.points} ({difference.kind} {difference.ends(percent)}, {other.kind} {other.ends(percent)})"
    )


# -- one study -----------------------------------------------------------------------------------------------


@cache
def study(name: str) -> Study:
    return open_study(name)


@cache
def metrics(name: str, control: str = "exact") -> pd.DataFrame:
    return metric_table(study(name), control)


def metric(name: str, arm: str, of: str, control: str = "exact") -> Value:
    """A metric over seeds and examples."""
    table = metrics(name, control)
    return _value(
        table[(table["arm"] == arm) & (table["metric"] == of) & table["seed"].isna()], f"{name} {arm} {of}"
    )


def by_seed(name: str, arm: str, of: str) -> list[float]:
    """A metric of every seed apart."""
    table = metrics(name)
    rows = table[(table["arm"] == arm) & (table["metric"] == of) & table["seed"].notna()].sort_values("seed")
    return [float(each) for each in rows["estimate"]]


@cache
def _differences(name: str, arm: str, baseline: str, interval: Kind) -> pd.DataFrame:
    return differences(study(name).table("generations"), arm, baseline, interval=interval)


def difference(name: str, arm: str, baseline: str, of: str, interval: Kind = "across") -> Value:
    """``arm`` minus ``baseline``, paired over examples and seeds."""
    table = _differences(name, arm, baseline, interval)
    return _value(table[(table["metric"] == of) & table["seed"].isna()], f"{name} {arm}-{baseline} {of}")


def both(name: str, arm: str, baseline: str, of: str) -> str:
    """The difference with both of its intervals."""
    return spelt(difference(name, arm, baseline, of, "within"), difference(name, arm, baseline, of, "across"))


def shown(name: str, arm: str, baseline: str, of: str) -> str:
    """Say what the two intervals let one say of a difference."""
    within = difference(name, arm, baseline, of, "within").excludes_zero
    across = difference(name, arm, baseline, of, "across").excludes_zero
    if within and across:
        return "shown on other examples and for other seeds"
    if within:
        return "shown on other examples, but three seeds do not show it of others"
    return "shown for other seeds, but not on other examples" if across else "so no difference is shown"


@cache
def _common(name: str) -> pd.DataFrame:
    return harm_on_common(study(name).table("generations"), ("opd", "nca"))


def common(name: str, arm: str) -> Value:
    """Harm on the prompts that both trained arms solve without the context."""
    table = _common(name)
    return _value(table[(table["arm"] == arm) & table["seed"].isna()], f"{name} {arm} harm_common")


@cache
def _regimes(name: str) -> pd.DataFrame:
    return regimes(study(name).table("generations")).set_index("arm")


def change(name: str, arm: str) -> Value:
    """Acc_xc − Acc_x."""
    row = _regimes(name).loc[arm]
    return Value(float(row["estimate"]), float(row["low"]), float(row["high"]), kind=str(row["interval"]))


def regime(name: str, arm: str) -> str:
    return str(_regimes(name).loc[arm, "regime"])


def seeds(name: str) -> str:
    number = len(study(name).manifest["seeds"])
    return {1: "one", 3: "three", 5: "five", 10: "ten"}.get(number, str(number))


def answers(name: str, arm: str, view: str = "with_context", control: str = "exact") -> pd.DataFrame:
    """The answers of an arm on the test split, at the last step."""
    rows = last_step(study(name).table("generations"))
    rows = rows[
        (rows["split"] == "test") & (rows["arm"] == arm) & (rows["view"] == view) & (rows["control"] == control)
    ]
    if rows.empty:
        raise LookupError(f"{name} has no answers of {arm} in {view}, {control}")
    return rows


def outcome(name: str, arm: str, which: str, view: str = "with_context", control: str = "exact") -> float:
    """The share of an arm's answers with this outcome."""
    return float((answers(name, arm, view, control)["outcome"] == which).mean())


def answered(name: str, arm: str, text: str, control: str) -> float:
    """The share of an arm's answers, behind a control, in which a word stands."""
    found = (
        answers(name, arm, "with_context", control)["response"]
        .str.lower()
        .str.contains(text.lower(), regex=False)
    )
    return float(found.mean())


def examples(name: str) -> int:
    return int(answers(name, "base", "no_context", "none")["example_id"].nunique())


def steps(name: str) -> int:
    return int(study(name).manifest["config"]["training"]["steps"])


# -- states --------------------------------------------------------------------------------------------------


@cache
def controls(name: str, of: str) -> pd.DataFrame:
    return control_table(study(name).table("drift"), of)


def state(name: str, arm: str, of: str, layer: int | str, control: str = "exact") -> float:
    """A measure at a layer (a number, ``last``, or ``worst``: the arm's worst relative to its floor)."""
    table = controls(name, of)
    number = table["layer"].max() if layer == "last" else layer
    table = worst(table) if layer == "worst" else table[table["layer"] == number]
    found = table.loc[table["arm"] == arm, control]
    if len(found) != 1:
        raise LookupError(f"{name} has {len(found)} values of {of} at layer {layer} for {arm} under {control}")
    return float(found.iloc[0])


def worst_layer(name: str, arm: str, of: str) -> int:
    table = worst(controls(name, of))
    return int(table.loc[table["arm"] == arm, "layer"].iloc[0])


def extreme(name: str, arm: str, of: str, which: str) -> float:
    """The lowest or highest value of a measure over the blocks, under the exact context."""
    table = controls(name, of)
    values = table.loc[(table["arm"] == arm) & (table["layer"] >= 0), "exact"]
    return float(values.min() if which == "lowest" else values.max())


def layers_where(name: str, arm: str, other: str, of: str) -> tuple[int, int]:
    """In how many blocks, of how many, an arm's views are more alike than another's."""
    table = controls(name, of)
    wide = table[table["layer"] >= 0].pivot(index="layer", columns="arm", values="exact")
    return int((wide[arm] > wide[other]).sum()), len(wide)


def controls_markdown(names: Sequence[str], of: str) -> str:
    """Each arm's worst layer relative to its floor, of several studies."""
    head = ("exact", "paraphrase", "mismatched", "irrelevant", "repeat", "floor", "relative")
    several = len(names) > 1
    first = "| study " if several else ""
    lines = [
        f"{first}| arm | layer | {' | '.join(head)} |",
        "|---" * several + "|---|---:|" + "---:|" * len(head),
    ]
    for name in names:
        for row in worst(controls(name, of)).to_dict("records"):
            cells = " | ".join(plain(float(row.get(each, np.nan))) for each in head)
            lines.append(f"| `{name}` " * several + f"| `{row['arm']}` | {int(row['layer'])} | {cells} |")
    return "\n".join(lines)


def relative(name: str, arm: str, of: str) -> float:
    """Measure how far the context moves a state at the arm's worst layer, relative to its floor."""
    return state(name, arm, of, "worst", "relative")


def relatives(name: str, of: str) -> str:
    """The same of base, opd and nca, in words."""
    return listed(f"{relative(name, arm, of):.2f} ({arm})" for arm in ARMS)


def squares(name: str, of: str) -> str:
    """The ratio of 1 − similarity without the root: what must not be read as "times as far"."""
    return listed(f"{relative(name, arm, of) ** 2:.1f} ({arm})" for arm in ARMS)


def in_order(name: str, of: str, descending: bool = True) -> bool:
    """Tell whether base moves most, then opd, then nca (relative to the floor), or the reverse."""
    values = [relative(name, arm, of) for arm in ARMS]
    return values == sorted(values, reverse=descending)


def span(name: str, arm: str, of: str, first: int, last: int) -> str:
    """The range of a share over some layers: ``51–62 %``."""
    table = controls(name, of)
    values = table.loc[(table["arm"] == arm) & table["layer"].between(first, last), "exact"]
    return f"{100 * values.min():.0f}–{100 * values.max():.0f}{NBSP}%"


def worked_example(name: str, rows: Iterable[tuple[str, int]]) -> str:
    """Some measures at some layers under every control, for base, opd and nca."""
    head = ("exact", "floor", "relative", "irrelevant", "mismatched", "repeat")
    lines = [f"| measure | layer | arm | {' | '.join(head)} |", "|---|---:|---|" + "---:|" * len(head)]
    for of, layer in rows:
        for arm in ARMS:
            cells = " | ".join(plain(state(name, arm, of, layer, control)) for control in head)
            lines.append(f"| `{of}` | {layer} | `{arm}` | {cells} |")
    return "\n".join(lines)


# -- the suite -----------------------------------------------------------------------------------------------


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
    """In how many settings, of how many, a claim of the suite's table holds, and in which."""
    table = count_claims(suite_differences())
    found = table[table["claim"].str.fullmatch(text)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} claims are '{text}': {list(table['claim'])}")
    row = found.iloc[0]
    return int(row["k"]), int(row["of"]), tuple(row["settings"])


def setting(name: str, arm: str, of: str) -> Value:
    """A metric of a setting's arm over seeds."""
    rows = suite_rows()
    row = rows[(rows["setting"] == name) & (rows["arm"] == arm)].iloc[0]
    return Value(
        float(row[of]), float(row[f"{of}_low"]), float(row[f"{of}_high"]), int(row["n"]), str(row["interval"])
    )


def setting_regime(name: str, arm: str) -> str:
    rows = suite_rows()
    return str(rows[(rows["setting"] == name) & (rows["arm"] == arm)].iloc[0]["regime"])


def paired(name: str, of: str, interval: Kind = "across") -> Value:
    """``nca`` minus ``opd`` in a setting."""
    rows = suite_differences(interval)
    return _value(rows[(rows["setting"] == name) & (rows["metric"] == of)], f"{name} {of}")


def paired_both(name: str, of: str) -> str:
    return spelt(paired(name, of, "within"), paired(name, of, "across"))


def settings_where(of: str, sign: int, beyond: bool, interval: Kind = "across") -> list[str]:
    """The settings in which nca − opd has this sign; ``beyond``: and its interval excludes 0."""
    rows = suite_differences(interval)
    rows = rows[(rows["metric"] == of) & (np.sign(rows["estimate"]) == sign)]
    if beyond:
        rows = rows[rows["excludes_zero"].astype(bool)]
    return [str(each) for each in rows["setting"]]


def flips(name: str, arm: str) -> tuple[int, int]:
    """(answers that the context made wrong, answers that were right without it), all seeds together."""
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
    """The settings in which the worst layer of ``lower`` is worse than that of ``higher``."""
    table = _lowest(of)
    first, second = (table[lower], table[higher]) if of != "relative_l2" else (table[higher], table[lower])
    return [str(each) for each in table.index[first < second]]


def lowest_range(of: str, arm: str) -> tuple[float, float]:
    """The smallest and largest worst-layer value of an arm over the settings."""
    return float(_lowest(of)[arm].min()), float(_lowest(of)[arm].max())


@cache
def _training() -> pd.DataFrame:
    return suite_training(suite())


def while_training(of: str, arm: str, step: int, settings: Iterable[str]) -> float:
    """A metric on the validation split at a step, mean over seeds and then over these settings."""
    rows = _training()
    rows = rows[(rows["arm"] == arm) & (rows["step"] == step) & rows["setting"].isin(list(settings))]
    return float(rows.astype({of: float}).groupby("setting")[of].mean().mean())


def _value(rows: pd.DataFrame, what: str) -> Value:
    if len(rows) != 1:
        raise LookupError(f"{what}: {len(rows)} rows where one was expected")
    row = rows.iloc[0]
    return Value(
        float(row["estimate"]), float(row["low"]), float(row["high"]), int(row["n"]), str(row["interval"])
    )


def unharmed(few: int = 10) -> list[str]:
    """The settings in which at most a few answers flip under ``opd``."""
    return [name for name in suite_settings() if flips(name, "opd")[0] < few]


def suite_settings() -> list[str]:
    return [name for name in SETTINGS if name in suite().studies]


def most_flips(settings: Iterable[str]) -> int:
    return max(flips(name, "opd")[0] for name in settings)


def max_length(arm: str) -> float:
    """The largest change of the mean length over the settings."""
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
    """The highest estimate among some arms of a setting that has ablations."""
    return max(ablation(name, arm, of).estimate for arm in arms)


def suite_markdown() -> str:
    return markdown_tables(suite(), suite_rows(), suite_differences(), suite_ablations())
