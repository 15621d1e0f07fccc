"""The tables of a suite as text: for the terminal, for the README, and as JSON.

Mental model: three tables say everything. *Rows* have the metrics of each setting and arm, *comparisons* the paired
differences between two arms in each setting, *counts* in how many settings each claim holds. A fourth has every arm of
the settings that were run with ablations. All numbers are in per cent (differences in points), with 95 % intervals in
brackets; of which kind they are, *across* or *within*, stands below each table.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cr_interp.report.study import unread_sentences
from cr_interp.report.verdict import COMMON
from cr_interp.statistics import MARGIN
from cr_interp.system.percent import percent
from cr_interp.system.shown import PlainTable, literal
from cr_interp.system.visible import code, in_markdown
from cr_interp.tables.ablations import ablation_rows
from cr_interp.tables.behaviour import metrics_json
from cr_interp.tables.claims import ALPHA, count_claims
from cr_interp.tables.estimates import Kind
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.suite import ARMS, SETTINGS, Suite, comparisons, in_order, setting_rows, unfinished
from cr_interp.tables.unread import unread_of
from cr_interp.vocabulary import JUDGED, METRICS, judged_first

_COMMON = f"on common: {COMMON}"
_REGIMES = (
    f"A: the context perturbs (the interval of the change excludes 0), B: it helps, C: the change is within {100 * MARGIN:g} "
    "points, open: none of these can be said (a trained arm with one seed is always open)"
)
_MISSING = "–"


def suite_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of :func:`~cr_interp.tables.suite.suite_table` as plain dicts, ``None`` where a seed or a number is missing."""
    rows = metrics_json(table) if len(table) else []
    return [{"setting": str(name), **row} for name, row in zip(table["setting"], rows, strict=True)]


# -- terminal ------------------------------------------------------------------------------------------------


def rich_suite(
    suite: Suite,
    control: str = "exact",
    arm: str = "nca",
    baseline: str = "opd",
    arms: Sequence[str] = ARMS,
    interval: Kind = "across",
) -> Group:
    """Return the three tables under each other; they fit a terminal of 100 columns."""
    compared = comparisons(suite, arm, baseline, control, interval)
    rows = setting_rows(suite, arms, control, interval)
    parts: list[Any] = [_rich_rows(rows, f"{suite.name} (context: {control})", interval)]
    if len(compared):
        counted = count_claims(compared, arm, baseline, interval)
        parts += [_rich_comparisons(compared, arm, baseline, interval), _rich_counts(counted)]
    ablations = ablation_rows(suite, control, baseline, interval)
    if len(ablations):
        parts.append(_rich_ablations(ablations, baseline, interval))
    parts += [literal(note) for note in (*_notes(suite), *_floors(compared, baseline), *_unread(suite, control))]
    spaced = [each for part in parts for each in (part, Text(""))]
    return Group(*spaced[:-1])


def _rich_rows(rows: pd.DataFrame, title: str, interval: Kind) -> Table:
    """Return a row per setting and arm; a column says how many seeds there are only if that is not the same for all."""
    trained = rows[rows["arm"] != "base"]["seeds"]
    uneven = trained.nunique() > 1
    out = _table(
        title + ("" if uneven or trained.empty else f", seeds: {trained.iloc[0]}"),
        f"in %; 95 % intervals: {said_intervals(rows, short=True, wanted=interval)}. Reg(ime) {_REGIMES}",
    )
    out.add_column("setting", overflow="fold")
    out.add_column("arm", overflow="fold")
    # The terminal has room for the interval of one metric; the others are in the README's table and in --json.
    for metric in judged_first():
        out.add_column(METRICS[metric].head or metric, justify="right")
    out.add_column("reg.", justify="center")
    if uneven:
        out.add_column("seeds", justify="right")
    before = None
    for row in rows.to_dict("records"):
        cells = [_value(row, name, interval=name == "harm") for name in judged_first()] + [_regime(row["regime"])]
        name = "" if row["setting"] == before else str(row["setting"])
        out.add_row(name, str(row["arm"]), *cells, *([str(row["seeds"])] if uneven else []))
        before = row["setting"]
    return out


def _rich_comparisons(compared: pd.DataFrame, arm: str, baseline: str, interval: Kind) -> Table:
    out = _table(
        f"{arm} − {baseline}, paired",
        f"in points; 95 % intervals: {said_of_differences(compared, interval)}; * excludes 0, ** after Holm too; {_COMMON}",
    )
    # The intervals may go onto a second line, the names may not: they are what a row is looked up by.
    longest = max(len(str(name)) for name in compared["setting"])
    out.add_column("setting", overflow="fold", no_wrap=longest <= 24)
    for metric in JUDGED:
        out.add_column("harm on common" if metric == "harm_common" else metric, justify="right")
    for setting, of_setting in compared.groupby("setting", sort=False):
        by_metric = of_setting.set_index("metric")
        cells = [_difference(by_metric.loc[name]).replace(", ", ",") for name in JUDGED]
        out.add_row(str(setting), *cells)
    return out


def _rich_counts(counts: pd.DataFrame) -> Table:
    out = _table("In how many settings", None)
    out.add_column("claim")
    out.add_column("settings", justify="right")
    for row in counts.to_dict("records"):
        out.add_row(row["claim"], f"{row['k']} of {row['of']}")
    return out


def _rich_ablations(rows: pd.DataFrame, baseline: str, interval: Kind) -> Table:
    out = _table(
        "Ablations",
        f"in %; minus: paired difference from {baseline}, in points; * the interval excludes 0; {_COMMON}; new: obeys "
        f"a new instruction; 95 % intervals: {said_intervals(rows, short=True, wanted=interval)}",
    )
    for name in ("setting", "arm"):
        out.add_column(name, overflow="fold")
    for name in ("acc_x", "acc_xc", "harm", "harm minus", "on common", "new", "seeds"):
        out.add_column(name, justify="right")
    before = None
    for row in rows.to_dict("records"):
        name = "" if row["setting"] == before else str(row["setting"])
        values = [_value(row, metric, interval=metric == "harm") for metric in ("acc_x", "acc_xc", "harm")]
        values += [_difference(_minus(row, "harm")), _difference(_minus(row, "harm_common"))]
        values += [_value(row, "new_instruction")]
        out.add_row(name, str(row["arm"]), *values, str(row["seeds"]))
        before = row["setting"]
    return out


def _table(title: str, caption: str | None) -> Table:
    return PlainTable(
        title,
        caption,
        padding=0,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )


# -- README --------------------------------------------------------------------------------------------------


def markdown_suite(
    suite: Suite,
    control: str = "exact",
    arm: str = "nca",
    baseline: str = "opd",
    arms: Sequence[str] = ARMS,
    interval: Kind = "across",
) -> str:
    """Write the suite as Markdown: a row per setting, the counts, and all numbers folded away below."""
    rows = setting_rows(suite, arms, control, interval)
    compared = comparisons(suite, arm, baseline, control, interval)
    ablations = ablation_rows(suite, control, baseline, interval)
    return markdown_tables(suite, rows, compared, ablations, control, arm, baseline, arms, interval)


def markdown_tables(
    suite: Suite,
    rows: pd.DataFrame,
    compared: pd.DataFrame,
    ablations: pd.DataFrame,
    control: str = "exact",
    arm: str = "nca",
    baseline: str = "opd",
    arms: Sequence[str] = ARMS,
    interval: Kind = "across",
) -> str:
    """Write :func:`markdown_suite` from tables that have been made: ``setting_rows``, ``comparisons``, ``ablation_rows``."""
    named = [name for name in dict.fromkeys(arms) if name in set(rows["arm"])]
    parts = [_markdown_settings(rows, compared, named, arm, baseline)]
    if len(rows):
        said = said_intervals(rows, wanted=interval)
        parts += [f"In %; 95 % intervals: {in_markdown(said)}. Regimes: {_REGIMES}."]
    if len(compared):
        counts = count_claims(compared, arm, baseline, interval)
        parts += [_markdown_counts(counts, list(dict.fromkeys(compared["setting"])))]
    if len(ablations):
        parts += [_markdown_ablations(ablations, baseline)]
    parts += [_folded("All metrics of every setting and arm", _markdown_rows(rows))]
    if len(compared):
        title = f"All paired differences, {arm} − {baseline}"
        parts += [_folded(title, _markdown_comparisons(compared))]
    parts += map(in_markdown, (*_notes(suite), *_floors(compared, baseline), *_unread(suite, control)))
    return "\n\n".join(parts)


def _markdown_settings(
    rows: pd.DataFrame, compared: pd.DataFrame, arms: Sequence[str], arm: str, baseline: str
) -> str:
    """Write one row per setting: values of the arms with a slash between them, then Harm of the two that are compared."""
    together = " / ".join(f"`{name}`" for name in arms)
    head = [
        "setting",
        f"regime {together}",
        f"acc_x {together}",
        f"acc_xc {together}",
        f"both_correct {together}",
    ]
    head += [f"harm `{baseline}`", f"harm `{arm}`", f"harm `{arm}` − `{baseline}`", "the same on common prompts"]
    cells = rows.set_index(["setting", "arm"]) if len(rows) else rows
    harm = compared[compared["metric"] == "harm"].set_index("setting")
    common = compared[compared["metric"] == "harm_common"].set_index("setting")
    body = []
    for setting in in_order(rows["setting"]):
        of_arm = {
            name: cells.loc[(setting, name)] for name in (*arms, arm, baseline) if (setting, name) in cells.index
        }
        line = [code(setting), _joined(_regime(of_arm[n]["regime"]) if n in of_arm else _MISSING for n in arms)]
        for metric in ("acc_x", "acc_xc", "both_correct"):
            line.append(_joined(_value(of_arm[n], metric) if n in of_arm else _MISSING for n in arms))
        for name in (baseline, arm):
            line.append(_value(of_arm[name], "harm", interval=True) if name in of_arm else _MISSING)
        for each in (harm, common):
            line.append(_difference(each.loc[setting], mark="") if setting in each.index else _MISSING)
        body.append(line)
    return _markdown(head, "l" + "c" * 4 + "r" * 4, body)


def _markdown_rows(rows: pd.DataFrame) -> str:
    shown = judged_first()
    head = ["setting", "arm", *shown, "regime", "seeds"]
    body = []
    for row in rows.to_dict("records"):
        cells = [_value(row, name, interval=True) for name in shown]
        body.append([code(row["setting"]), code(row["arm"]), *cells, _regime(row["regime"]), str(row["seeds"])])
    return _markdown(head, "ll" + "r" * len(shown) + "cr", body)


def _markdown_comparisons(compared: pd.DataFrame) -> str:
    metrics = list(dict.fromkeys(compared["metric"]))
    body = []
    for setting, of_setting in compared.groupby("setting", sort=False):
        by_metric = of_setting.set_index("metric")
        p = [_p(by_metric.loc["harm", name]) for name in ("p", "p_holm", "p_sign_flip")]
        body.append([code(setting), *(_difference(by_metric.loc[name], mark="") for name in metrics), *p])
    head = ["setting", *metrics, "p of harm (t)", "after Holm", "p (sign flips)"]
    return _markdown(head, "l" + "r" * (len(head) - 1), body)


def _markdown_ablations(rows: pd.DataFrame, baseline: str) -> str:
    head = [
        "setting",
        "arm",
        "acc_x",
        "acc_xc",
        "both",
        "harm",
        *(f"{name} − `{baseline}`" for name in JUDGED),
        "new instruction",
        "seeds",
    ]
    body = []
    for row in rows.to_dict("records"):
        cells = [
            _value(row, name, interval=name == "harm") for name in ("acc_x", "acc_xc", "both_correct", "harm")
        ]
        cells += [_difference(_minus(row, name), mark="") for name in JUDGED]
        cells.append(_value(row, "new_instruction", interval=True))
        body.append([code(row["setting"]), code(row["arm"]), *cells, str(row["seeds"])])
    return _markdown(head, "ll" + "r" * (len(head) - 2), body)


def _minus(row: Any, metric: str) -> dict[str, Any]:
    """Return the difference from the baseline as a row of comparisons has it."""
    low, high = row[f"{metric}_minus_low"], row[f"{metric}_minus_high"]
    return {"estimate": row[f"{metric}_minus"], "low": low, "high": high, "excludes_zero": low > 0 or high < 0}


def _markdown_counts(counts: pd.DataFrame, settings: Sequence[str]) -> str:
    body = [
        [in_markdown(row["claim"]), f"{row['k']} of {row['of']}", in_markdown(_which(row, settings))]
        for row in counts.to_dict("records")
    ]
    return _markdown(["claim", "settings", "which"], "lrl", body)


def _which(row: Any, settings: Sequence[str]) -> str:
    """Name the settings of a claim in the fewest words; "all but" only where the claim was asked of every setting."""
    others = [name for name in settings if name not in row["settings"]]
    if row["k"] and row["of"] == len(settings) and len(others) < row["k"]:
        return f"all but {', '.join(others)}" if others else "all"
    return ", ".join(row["settings"]) or _MISSING


def _markdown(head: Sequence[str], justify: str, body: Sequence[Sequence[str]]) -> str:
    marks = {"l": "---", "c": ":---:", "r": "---:"}
    lines = [head, [marks[each] for each in justify], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _joined(values: Iterable[str]) -> str:
    return " / ".join(values)


# -- words ---------------------------------------------------------------------------------------------------


def _notes(suite: Suite) -> list[str]:
    """Say what is not (or not wholly) in the tables, in one sentence; nothing for a finished suite."""
    lacking = unfinished(suite)
    if not lacking:
        return []
    by_reason: dict[str, list[str]] = {}
    for name, reason in lacking.items():
        by_reason.setdefault(reason, []).append(name)
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    of = f" of the {len(SETTINGS)} settings" if set(SETTINGS) >= {*suite.studies, *lacking} else ""
    return [f"Unfinished{of}: {listed}."]


def _unread(suite: Suite, control: str) -> list[str]:
    """Return a sentence for each setting in which a tenth or more of an arm's answers could not be read."""
    return [
        f"{setting}: {sentence}"
        for setting, study in suite.studies.items()
        if study.has_table("generations")
        for sentence in unread_sentences(unread_of(study, control), least=0.1)
    ]


def _floors(compared: pd.DataFrame, baseline: str) -> list[str]:
    """Say the floor that Harm has with sampled decoding; greedy decoding has none to speak of."""
    harm = compared[compared["metric"] == "harm"]
    rows = harm[harm["baseline_floor"].isna() | (harm["baseline_floor"] > 0)]
    if rows.empty:
        return []
    listed = ", ".join(
        f"{row['setting']} {percent(row['baseline_floor'])}"
        if pd.notna(row["baseline_floor"])
        else f"{row['setting']} unknown (one sample, or none right)"
        for row in rows.to_dict("records")
    )
    return [f"Harm's noise floor under sampled decoding, {baseline}, in %: {listed}."]


def _value(row: Any, metric: str, interval: bool = False) -> str:
    if pd.isna(row[metric]):
        return _MISSING
    text = percent(row[metric])
    return text + _ends(row[f"{metric}_low"], row[f"{metric}_high"]) if interval else text


def said_of_differences(compared: pd.DataFrame, interval: Kind = "across") -> str:
    """Say of which kind the intervals of paired differences are; settings with one seed are named."""
    return said_intervals(compared.assign(arm=compared["setting"]), short=True, wanted=interval)


def _difference(row: Any, mark: str = "*") -> str:
    if pd.isna(row["estimate"]):
        return _MISSING
    text = percent(row["estimate"], sign=True) + _ends(row["low"], row["high"])
    if not (mark and row["excludes_zero"]):
        return text
    return f"{mark * (2 if row.get('p_holm', 1.0) < ALPHA else 1)}{text}"


def _p(value: Any) -> str:
    return _MISSING if pd.isna(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _ends(low: float, high: float) -> str:
    return f" [{percent(low)}, {percent(high)}]" if pd.notna(low) and pd.notna(high) else ""


def _regime(regime: Any) -> str:
    return _MISSING if pd.isna(regime) else str(regime)
