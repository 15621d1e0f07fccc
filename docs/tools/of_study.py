"""Every number of one study that a page may cite: metrics, differences, regimes, answers."""

from collections.abc import Sequence
from functools import cache

import pandas as pd
from values import Value, listed, spelt, value_of

from cr_interp.study.rows import last_step
from cr_interp.study.searching import open_study
from cr_interp.study.study import Study
from cr_interp.system.visible import in_markdown
from cr_interp.tables.behaviour import differences, harm_on_common, regimes
from cr_interp.tables.estimates import Kind
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.marks import MARKS, marks
from cr_interp.tables.metrics import metric_table
from cr_interp.tasks.language.explained import marker
from cr_interp.vocabulary import PAPER_ARMS

#: Studies of the results pages, in the order of the site.
STUDIES = ("organism-shift", "organism-swap", "smollm2-sentiment", "smollm2-wordclass", "smollm2-explained")
ARMS = PAPER_ARMS


def intervals(name: str) -> str:
    """Say which intervals a study's table shows, in the words of the tables themselves."""
    table = metrics(name)
    return f"Intervals in brackets are 95 %: {in_markdown(said_intervals(table[table['seed'].isna()]))}."


@cache
def study(name: str) -> Study:
    return open_study(name)


@cache
def metrics(name: str, control: str = "exact") -> pd.DataFrame:
    return metric_table(study(name), control)


def metric(name: str, arm: str, of: str, control: str = "exact") -> Value:
    """Return a metric over seeds and examples."""
    table = metrics(name, control)
    return value_of(
        table[(table["arm"] == arm) & (table["metric"] == of) & table["seed"].isna()], f"{name} {arm} {of}"
    )


def by_seed(name: str, arm: str, of: str) -> list[float]:
    """Return a metric of every seed apart."""
    table = metrics(name)
    rows = table[(table["arm"] == arm) & (table["metric"] == of) & table["seed"].notna()].sort_values("seed")
    return [float(each) for each in rows["estimate"]]


@cache
def _differences(name: str, arm: str, baseline: str, interval: Kind) -> pd.DataFrame:
    return differences(study(name).table("generations"), arm, baseline, interval=interval)


def difference(name: str, arm: str, baseline: str, of: str, interval: Kind = "across") -> Value:
    """Return ``arm`` minus ``baseline``, paired over examples and seeds."""
    table = _differences(name, arm, baseline, interval)
    return value_of(table[(table["metric"] == of) & table["seed"].isna()], f"{name} {arm}-{baseline} {of}")


def both(name: str, arm: str, baseline: str, of: str) -> str:
    """Write the difference with both of its intervals."""
    return spelt(difference(name, arm, baseline, of, "within"), difference(name, arm, baseline, of, "across"))


def decided_across(names: Sequence[str]) -> str:
    """Return the studies in which the paired difference in Harm, nca − opd, excludes 0 across seeds, in words."""
    found = [f"`{name.partition('-')[2]}`" for name in names if difference(name, "nca", "opd", "harm").high < 0]
    return f"{listed(found)} only" if len(found) == 1 else listed(found) or "neither yet"


def shown(name: str, arm: str, baseline: str, of: str) -> str:
    """Say what the two intervals let one say of a difference."""
    within = difference(name, arm, baseline, of, "within").excludes_zero
    over_seeds = difference(name, arm, baseline, of, "across")
    if over_seeds.kind != "across":
        return "shown on other examples, of one seed" if within else "so no difference is shown"
    across = over_seeds.excludes_zero
    if within and across:
        return "shown on other examples and for other seeds"
    if within:
        return f"shown on other examples, but {seeds(name)} seeds do not show it of others"
    return "shown for other seeds, but not on other examples" if across else "so no difference is shown"


@cache
def _common(name: str) -> pd.DataFrame:
    return harm_on_common(study(name).table("generations"), ("opd", "nca"))


def common(name: str, arm: str) -> Value:
    """Return Harm on the prompts that both trained arms solve without the context."""
    table = _common(name)
    return value_of(table[(table["arm"] == arm) & table["seed"].isna()], f"{name} {arm} harm_common")


@cache
def _regimes(name: str) -> pd.DataFrame:
    return regimes(study(name).table("generations")).set_index("arm")


def change(name: str, arm: str) -> Value:
    """Return Acc_xc − Acc_x."""
    row = _regimes(name).loc[arm]
    return Value(float(row["estimate"]), float(row["low"]), float(row["high"]), kind=str(row["interval"]))


def regime(name: str, arm: str) -> str:
    return str(_regimes(name).loc[arm, "regime"])


def seeds(name: str) -> str:
    number = len(study(name).manifest["seeds"])
    return {1: "one", 3: "three", 5: "five", 10: "ten"}.get(number, str(number))


def answers(name: str, arm: str, view: str = "with_context", control: str = "exact") -> pd.DataFrame:
    """Return the answers of an arm on the test split, at the last step."""
    rows = last_step(study(name).table("generations"))
    rows = rows[
        (rows["split"] == "test") & (rows["arm"] == arm) & (rows["view"] == view) & (rows["control"] == control)
    ]
    if rows.empty:
        raise LookupError(f"{name} has no answers of {arm} in {view}, {control}")
    return rows


def outcome(name: str, arm: str, which: str, view: str = "with_context", control: str = "exact") -> float:
    """Return the share of an arm's answers with this outcome."""
    return float((answers(name, arm, view, control)["outcome"] == which).mean())


def answered(name: str, arm: str, text: str, control: str) -> float:
    """Return the share of an arm's answers, behind a control, in which a word stands."""
    found = (
        answers(name, arm, "with_context", control)["response"]
        .str.lower()
        .str.contains(text.lower(), regex=False)
    )
    return float(found.mean())


@cache
def _marks(name: str, pattern: str, interval: Kind) -> pd.DataFrame:
    return marks(study(name).table("generations"), pattern, interval=interval)


def mark(name: str, arm: str, of: str, interval: Kind = "across") -> Value:
    """Return markers and tokens a response, of the bundled study whose context asks for a marker."""
    table = _marks(name, marker(), interval)
    return value_of(
        table[(table["arm"] == arm) & (table["metric"] == of) & table["seed"].isna()], f"{name} {arm} {of}"
    )


def every_seed(name: str, arm: str, of: str) -> dict[int, Value]:
    """Return a metric, or a number of markers or tokens, of every seed apart, with its interval over other examples."""
    table = _marks(name, marker(), "across") if of in MARKS else metrics(name)
    rows = table[(table["arm"] == arm) & (table["metric"] == of) & table["seed"].notna()].sort_values("seed")
    return {
        int(row.seed): Value(float(row.estimate), float(row.low), float(row.high), int(row.n), str(row.interval))
        for row in rows.itertuples()
    }


def measured(name: str, table: str) -> bool:
    return study(name).has_table(table)


def doubled(value: Value) -> str:
    """Say what the interval of a number with the context, over that without it, lets one say: twice as much, more, less?"""
    if not value.exists or not value.low <= value.high:
        return "nothing to double: there is none without it"
    if value.low >= 2:
        return "at least doubled"
    if value.high < 2:
        beside = (
            "more than without it"
            if value.low > 1
            else "less than without it"
            if value.high < 1
            else "no change is shown"
        )
        return f"not doubled; {beside}"
    return f"open: the interval holds 2{' and 1' if value.low <= 1 else ''}"


def examples(name: str) -> int:
    return int(answers(name, "base", "no_context", "none")["example_id"].nunique())


def steps(name: str) -> int:
    return int(study(name).manifest["config"]["training"]["steps"])
