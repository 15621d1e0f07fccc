"""What stands in the report of a study, in order: the verdict and its limits first, where it comes from last.

Mental model: each function below makes the parts of one section from the study's tables. A table that is missing or damaged costs
its own section, which then says so; the others stand. Nothing here needs torch, a checkpoint or a network.

    verdict   answers      flips        drift       mechanism     contexts     provenance
"""

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.report.flips import flips
from cr_interp.report.limits import limits
from cr_interp.report.parts import Answer, Code, Drawing, Folded, Numbers, Points, Section, Words
from cr_interp.report.read_once import Held
from cr_interp.report.settings import configuration, provenance
from cr_interp.report.study import format_estimate
from cr_interp.report.verdict import headline
from cr_interp.report.why import why
from cr_interp.study.schema import Manifest
from cr_interp.study.study import Study
from cr_interp.system.percent import number
from cr_interp.tables.behaviour import UNTRAINED, differences, metrics, outcome_shares, regimes
from cr_interp.tables.controls import control_table, worst
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.metrics import metric_names
from cr_interp.tables.obedience import OBEDIENCE
from cr_interp.vocabulary import CONTROLS, METRICS, arm_order, layer_name

#: What the change from Acc_x to Acc_xc is called, in a sentence about one arm.
REGIMES = {
    "A": "its return lowers the accuracy",
    "B": "its return still raises the accuracy",
    "C": "its return changes the accuracy by less than 2 points",
    "open": "whether its return changes the accuracy is open",
}
#: The arm that others are compared with, where there is one.
BASELINE = "opd"


def sections(study: Study) -> list[Section]:
    """Return all sections of a study's report.

    Raises :class:`UserError` only where a study has neither answers nor drift, of which nothing can be reported.
    """
    if not (study.has_table("generations") or study.has_table("drift")):
        raise UserError(
            f"Study {study.name} has neither answers nor drift yet, so there is nothing to report. Evaluate and capture it "
            f"first: cr-interp evaluate {study.name}, cr-interp capture {study.name}."
        )
    made: list[tuple[str, str, Callable[[Held], list[Any]], bool]] = [
        ("verdict", "What happens when the context returns", verdict, study.has_table("generations")),
        ("metrics", "Answers in both views", answers, study.has_table("generations")),
        ("flips", "Answers that flip", flips, study.has_table("generations")),
        ("drift", "How far the states move", drift, study.has_table("drift")),
        ("mechanism", "Why answers flip", why, True),
        ("controls", "Other contexts, and a new instruction", controls, study.has_table("generations")),
        ("provenance", "Where this comes from", origin, True),
    ]
    found, held = [], Held(study)
    for anchor, title, make, there in made:
        if there and (parts := _guarded(make, held)):
            found.append(Section(anchor, title, parts))
    return found


def _guarded(make: Callable[[Held], list[Any]], held: Held) -> list[Any]:
    try:
        return make(held)
    except UserError as error:
        return [Words(f"This cannot be shown: {error}", "note")]


# -- verdict -------------------------------------------------------------------------------------------------


def verdict(held: Held) -> list[Any]:
    """Put each arm against the baseline as a question with its answer, then each arm alone, then what all this does not say."""
    generations, split, table = held.answers, held.split, held.metrics
    arms = arm_order(table["arm"])
    trained = [arm for arm in arms if arm != UNTRAINED]
    parts: list[Any] = [
        Words(
            "A model was trained to answer without a context as it did with it. Here the context comes back. Harm is the "
            "share of answers, right without it, that are wrong once it returns.",
            "lead",
        )
    ]
    if "harm" not in set(table["metric"]):
        parts.append(Points([_keyless(table, arm) for arm in arms if arm in trained or not trained]))
    else:
        for arm in trained if BASELINE in arms else ():
            if arm != BASELINE:
                parts.append(_against(generations, table, arm, split))
        found = regimes(generations, split=split).set_index("arm")["regime"]
        if told := [_of_arm(table, arm, found.get(arm)) for arm in arms if arm in trained or not trained]:
            parts.append(Points(told))
    parts.append(Words(f"95 % intervals: {said_intervals(table[table['seed'].isna()])}.", "note"))
    parts.append(Words("What this does not say", "head"))
    parts.append(Points(limits(held.study, table)))
    return parts


def _against(generations: pd.DataFrame, table: pd.DataFrame, arm: str, split: str | None) -> Answer:
    change = differences(generations, arm, BASELINE, split=split)
    found = headline(table, change, arm, BASELINE)
    return Answer(
        f"Has {arm} less Harm than {BASELINE}, without losing accuracy?",
        found.verdict,
        found.sentence,
        found.numbers,
    )


def _of_arm(table: pd.DataFrame, arm: str, regime: Any) -> str:
    rows = table[(table["arm"] == arm) & table["seed"].isna()].set_index("metric")
    harm = _cell("harm", rows)
    seeds = table.loc[(table["arm"] == arm) & table["seed"].notna(), "seed"].nunique()
    first = (
        f"{arm}: of {int(rows.at['harm', 'n'])} answers that are right without the context, {harm} are wrong when it returns."
        if harm != "–"
        else f"{arm}: no answer is right without the context, so there is no Harm to speak of."
    )
    known = REGIMES.get(str(regime), REGIMES["open"])
    return (
        f"{first} Accuracy {_cell('acc_x', rows)} without, {_cell('acc_xc', rows)} with the context: {known}"
        f"{f' (regime {regime})' if str(regime) in 'ABC' else ''}. {seeds} {'seed' if seeds == 1 else 'seeds'}."
    )


def _keyless(table: pd.DataFrame, arm: str) -> str:
    """Say what can be said of an arm whose examples have no answer key."""
    rows = table[(table["arm"] == arm) & table["seed"].isna()].set_index("metric")
    seeds = table.loc[(table["arm"] == arm) & table["seed"].notna(), "seed"].nunique()
    told = f"{arm}: {_cell('changed', rows)} of the answers change when the context returns; length {_cell('delta_len', rows)}."
    for name, says in (
        ("invariance", "the two views are apart"),
        ("fidelity", "the student is from its teacher"),
    ):
        if name in rows.index:
            told += f" {says.capitalize()} {_cell(name, rows)} nats a token ({name})."
    return f"{told} {seeds} {'seed' if seeds == 1 else 'seeds'}."


def _cell(name: str, rows: pd.DataFrame) -> str:
    if name not in rows.index:
        return "–"
    row = rows.loc[name]
    return format_estimate(name, row["estimate"], row["low"], row["high"])


# -- answers -------------------------------------------------------------------------------------------------


def answers(held: Held) -> list[Any]:
    """Show the forest of metrics, its numbers, and what kind of wrong the wrong answers are."""
    generations, split, table = held.answers, held.split, held.metrics
    table = table[~table["metric"].isin(list(OBEDIENCE))]  # which has a section of its own
    shown = table[table["seed"].isna()]
    parts: list[Any] = []
    if set(table["metric"]) & {*METRICS}:
        parts.append(Drawing(figures.metric_forest(table), least=640))
    parts.append(Numbers(_wide(shown), f"95 % intervals: {said_intervals(shown)}."))
    by_seed = table[table["seed"].notna()]
    if by_seed.groupby("arm")["seed"].nunique().max() > 1:
        note = "95 % intervals: within (these runs, other examples)."
        parts.append(Folded("Each seed", [Numbers(_wide(by_seed, ["arm", "seed"]), note, heads=2)]))
    shares = outcome_shares(generations, split)
    if len(shares):
        parts += [Words("What kind of wrong", "head"), Drawing(figures.outcomes_bar(shares), least=480)]
    return parts


def _wide(table: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """Return a row per arm (and seed), a column per metric, each cell an estimate and its interval."""
    by = by or ["arm"]
    names = metric_names(table)
    rows = []
    order = {arm: index for index, arm in enumerate(arm_order(table["arm"]))}
    for key, mine in sorted(table.groupby(by, sort=False), key=lambda each: (order[each[0][0]], each[0][1:])):
        of = mine.set_index("metric")
        rows.append({**dict(zip(by, map(str, key), strict=True)), **{name: _cell(name, of) for name in names}})
    return pd.DataFrame(rows, columns=[*by, *names])


# -- drift ---------------------------------------------------------------------------------------------------


def drift(held: Held) -> list[Any]:
    """Show the cosine by layer with its floor behind it, and each arm's layer that moves most relative to that floor."""
    rows = held.study.table("drift")
    have = set(rows.loc[rows["measure"] == "cosine", "control"])
    behind = [name for name in ("floor", "repeat") if name in have]
    parts: list[Any] = [
        Words(
            "Aligned positions of the response that each arm gave without the context, the same ids in both views. The lower "
            "the cosine, the farther the context moves the state. In grey: the floor, unrelated tokens at the same place.",
            "lead",
        ),
        Drawing(figures.drift_by_layer(rows, "cosine", behind=behind), least=480),
    ]
    if {"exact", "floor"} <= have:
        table = worst(control_table(rows, "cosine"))
        parts.append(
            Numbers(
                _numbers(table),
                "Of every arm the layer that moves most relative to its floor; relative: how many times as far as another token, "
                "as distances. Means over seeds, no interval.",
            )
        )
    else:
        parts.append(Words("No floor was measured, so these cosines say nothing of what is far or near.", "note"))
    return parts


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.copy().astype(object)
    for name in shown:
        shown[name] = [
            layer_name(int(value)) if name == "layer" else str(value) if name == "arm" else number(value)
            for value in table[name]
        ]
    return shown


# -- controls ------------------------------------------------------------------------------------------------


def controls(held: Held) -> list[Any]:
    """Show Harm and accuracy under every context that was given, and whether the student still follows a new instruction."""
    generations, split = held.answers, held.split
    asked = set(generations.loc[generations["view"] == "with_context", "control"])
    given = [name for name in CONTROLS if name in asked]
    parts: list[Any] = []
    if given:
        tables: dict[str, pd.DataFrame] = {name: metrics(generations, name, split=split) for name in given}
        parts.append(Numbers(_by_control(tables), _control_note(tables), heads=2))
    if len(given) == 1:
        parts.append(
            Words(
                f"Only the {given[0]} context was given: whether any other text in its place would do the same is not known.",
                "note",
            )
        )
    parts += _obedience(held.metrics)
    return parts


def _by_control(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = []
    first = next(iter(tables.values()))
    keyed = set(first["metric"]) >= {"acc_xc", "harm"}
    for metric in ("acc_xc", "harm") if keyed else ("changed",):
        for arm in arm_order(first["arm"]):
            cells = {}
            for control, table in tables.items():
                mine = table[(table["arm"] == arm) & table["seed"].isna()].set_index("metric")
                cells[control] = _cell(metric, mine)
            rows.append({"metric": metric, "arm": str(arm), **cells})
    return pd.DataFrame(rows, columns=["metric", "arm", *tables])


def _control_note(tables: dict[str, pd.DataFrame]) -> str:
    first = next(iter(tables.values()))
    return (
        "exact: the context of training; paraphrase: the same in other words; mismatched: another context of the kind; "
        f"irrelevant: a text of like length about nothing. 95 % intervals: {said_intervals(first[first['seed'].isna()])}."
    )


def _obedience(table: pd.DataFrame) -> list[Any]:
    shown = table[table["metric"].isin(list(OBEDIENCE)) & table["seed"].isna()]
    if shown.empty:
        return [
            Words(
                "Whether the student still listens to a new instruction was not measured; one that ignores every context has "
                "no Harm either.",
                "note",
            )
        ]
    return [
        Words("Does it still listen?", "head"),
        Numbers(
            _wide(shown),
            "new_instruction: share of answers that obey another instruction than the one trained away, given as the context "
            "(mismatched); new_instruction_x: share that happen to obey it without having been told. A student that ignores "
            f"every context has no Harm, and shows here. 95 % intervals: {said_intervals(shown)}.",
        ),
    ]


# -- provenance ----------------------------------------------------------------------------------------------


def origin(held: Held) -> list[Any]:
    """List fingerprints, versions and the command; the contexts that were given; what differs between the arms."""
    study, manifest = held.study, held.study.manifest
    parts: list[Any] = []
    if manifest.get("command"):
        parts.append(Code(str(manifest["command"]), "The command"))
    parts.append(Numbers(provenance(manifest).rename(columns={"setting": "what"})))
    if study.has_table("generations"):
        differing, shared = configuration(manifest, arm_order(held.answers["arm"]))
        if len(differing):
            wide = differing.set_index("setting").T.rename_axis("arm").reset_index()
            parts.append(Folded("What differs between the arms", [Numbers(wide)]))
        parts.append(Folded("Settings that all arms share", [Numbers(shared)]))
    if texts := list(_contexts(manifest)):
        parts.append(Folded("The contexts, word for word", texts))
    return parts


def _contexts(manifest: Manifest) -> Iterable[Code]:
    controls = manifest.get("controls") or {}
    for name, context in {"exact": manifest.get("context"), **controls}.items():
        if not isinstance(context, dict):
            continue
        messages = context.get("messages") or []
        lines = [
            f"[{each.get('role', '?')}]\n{each.get('content', '')}" for each in messages if isinstance(each, dict)
        ]
        splice = context.get("splice")
        lines += [f"[prompt]\n{splice}"] if splice and splice != "{prompt}" else []
        lines += [f"of each example its own: {context['each']}"] if "each" in context else []
        if lines:
            yield Code("\n\n".join(lines), str(name))
