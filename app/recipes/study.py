"""The few lines of Python that make a figure, for the Save button: they run as printed, wherever the study is found.

Mental model: a recipe opens the study, takes the rows that are chosen on the left, and calls the function that the page
called. Each one below is that, in the order of the pages; a test runs them and compares the figures.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.queries.state import Selection
from cr_interp.vocabulary import DERIVED

Cell = tuple[int, int]


class Name(str):
    """An argument that is an expression, not a text."""


def call(function: str, *values: Any, **options: Any) -> str:
    """Write ``function(values, options)`` as code.

    >>> call("figures.curve", Name("table"), "cosine", layer=3)
    "figures.curve(table, 'cosine', layer=3)"
    """
    written = [value if isinstance(value, Name) else repr(value) for value in values]
    written += [f"{name}={value if isinstance(value, Name) else repr(value)}" for name, value in options.items()]
    return f"{function}({', '.join(written)})"


def metrics(chosen: Selection) -> str:
    return _of_study(
        chosen,
        "behaviour, figures",
        _answers(chosen),
        f"table = rows_of(behaviour.metrics(answers, {chosen.control!r}, split={chosen.split!r}), {_arms(chosen)})",
        f"figure = figures.metric_forest(table, control={chosen.control!r})",
    )


def outcomes(chosen: Selection) -> str:
    return _of_study(
        chosen,
        "behaviour, figures",
        _answers(chosen),
        f"shares = rows_of(behaviour.outcome_shares(answers, split={chosen.split!r}), {_arms(chosen)})",
        f"shares = shares[shares['control'].isin({['none', chosen.control]!r})]",
        f"figure = figures.outcomes_bar(shares, {chosen.control!r})",
    )


def training_log(
    chosen: Selection,
    log: Any,
    columns: Sequence[str],
    arms: Sequence[str],
    logarithmic: bool = False,
    batch_size: int | None = None,
) -> str:
    """Write the recipe; ``log`` is the table that is drawn, whose arms need not all be among those that can be chosen."""
    length = f"log = log.assign(length=log['response_tokens'] / {batch_size})"
    return _of_study(
        chosen,
        "figures",
        "log = StudyLogs(study).read()",
        f"log = rows_of(log, arms={list(dict.fromkeys(log['arm']))!r}{_seeds(chosen)})",
        *([length] if "length" in columns else ()),
        "figure = " + call("figures.training_curves", Name("log"), list(columns), list(arms), log=logarithmic),
        study="StudyLogs, open_study, rows_of",
    )


def metrics_over_steps(chosen: Selection, names: Sequence[str]) -> str:
    return _of_study(
        chosen,
        "behaviour, figures",
        _answers(chosen),
        f"table = behaviour.metrics_by_step(answers, {chosen.control!r}, split={chosen.split!r})",
        f"table = rows_of(table, {_arms(chosen)})",
        "figure = "
        + call(
            "figures.metrics_over_steps",
            Name("table"),
            list(names),
            list(chosen.all_arms),
            control=chosen.control,
        ),
    )


def drift_at_step(chosen: Selection, step: int, movement: bool) -> str:
    values = (step, chosen.measure, chosen.control, movement, list(chosen.all_arms))
    return _of_study(
        chosen,
        _modules(chosen),
        _drift(chosen),
        *_derived(chosen),
        _under(chosen),
        "figure = " + call("figures.drift_at_step", Name("drift"), *values),
    )


def drift_over_steps(chosen: Selection, step: int, movement: bool) -> str:
    values = (chosen.measure, chosen.control, movement, step, list(chosen.all_arms))
    return _of_study(
        chosen,
        _modules(chosen),
        _drift(chosen),
        *_derived(chosen),
        _under(chosen),
        "figure = " + call("figures.drift_over_steps", Name("drift"), *values),
    )


def drift(
    chosen: Selection,
    movement: bool,
    marked: Sequence[int] = (),
    behind: Sequence[str] = (),
    patched: bool = False,
) -> str:
    """Write the recipe; ``patched``: with what patching repairs below."""
    more = {"behind": list(behind)} if behind else {}
    figure = call(
        "figures.drift_by_layer",
        Name("drift"),
        chosen.measure,
        chosen.control,
        movement=movement,
        arms=list(chosen.all_arms),
        **more,
    )
    below = call("figures.below", Name("figure"), Name("patching"), list(chosen.all_arms))
    return _of_study(
        chosen,
        _modules(chosen),
        _drift(chosen),
        *_derived(chosen),
        f"figure = {figure}",
        *([f"figures.mark_layers(figure, {list(marked)!r})"] if marked else ()),
        *([f"patching = {_rows_of_table(chosen, 'patching')}", below] if patched else ()),
    )


def drift_difference(chosen: Selection, marked: Sequence[int] = ()) -> str:
    figure = call(
        "figures.drift_difference",
        Name("drift"),
        chosen.baseline,
        chosen.measure,
        chosen.control,
        arms=list(chosen.all_arms),
    )
    return _of_study(
        chosen,
        _modules(chosen),
        _drift(chosen),
        *_derived(chosen),
        f"figure = {figure}",
        *([f"figures.mark_layers(figure, {list(marked)!r})"] if marked else ()),
    )


def maps(chosen: Selection, kind: str, scale: str, cell: Cell | None) -> str:
    seeds = Name(f"rows_of(rows, {_arms(chosen)})['seed']")
    return _of_study(
        chosen,
        "figures",
        *_maps(chosen, kind),
        f"table = rows_of(figures.map_table(rows, {kind!r}), {_arms(chosen)})",
        "figure = " + call("figures.map_panels", Name("table"), kind, scale, cell, seeds),
    )


def map_difference(chosen: Selection, kind: str, scale: str, cell: Cell | None) -> str:
    seeds = Name(f"rows_of(rows, {_arms(chosen)})['seed']")
    return _of_study(
        chosen,
        "figures",
        *_maps(chosen, kind),
        f"table = rows_of(figures.map_difference(rows, {kind!r}, {chosen.baseline!r}), {_arms(chosen)})",
        "figure = " + call("figures.difference_panels", Name("table"), kind, chosen.baseline, scale, cell, seeds),
    )


def map_profile(chosen: Selection, kind: str, scale: str, cell: Cell) -> str:
    return _of_study(
        chosen,
        "figures",
        *_maps(chosen, kind),
        f"table = rows_of(figures.map_table(rows, {kind!r}), {_arms(chosen)})",
        "figure = " + call("figures.profile_curves", Name("table"), kind, cell, scale, list(chosen.all_arms)),
    )


def strips(
    chosen: Selection,
    example: str,
    seeds: dict[str, int],
    measure: str,
    end: float,
    layer: int,
    part: tuple[int, int],
    **whose: str,
) -> str:
    """Write the recipe; ``seeds``: the arms that are shown, and of which run."""
    return _of_study(
        chosen,
        "figures, token_view",
        "tokens = study.table('token_drift')",
        f"tokens = last_step(tokens[tokens['example_id'] == {example!r}])",
        "found = [",
        f"    token_view.Reading.of(arm, tokens[(tokens['arm'] == arm) & (tokens['seed'] == seed)], {measure!r})",
        f"    for arm, seed in {seeds!r}.items()",
        "]",
        "columns = token_view.align([reading.tokens for reading in found])",
        "figure = " + call("figures.strips", Name("found"), Name("columns"), measure, end, layer, part, **whose),
        study="last_step, open_study",
    )


def cases(chosen: Selection, arm: str, listed: Sequence[str]) -> str:
    return _of_study(
        chosen,
        "example_pairs, figures",
        _answers(chosen),
        f"pairs = rows_of(example_pairs.paired(answers, split={chosen.split!r}, control={chosen.control!r}), "
        f"{_arms(chosen)})",
        f"counts = rows_of(example_pairs.case_counts(pairs), {_arms(chosen)})",
        "figure = "
        + call("figures.four_cells", Name("counts"), chosen.control, (arm, tuple(listed)), Name("pairs['seed']")),
    )


def decided(chosen: Selection, group: str, direction: str, readout: str, with_drift: bool) -> str:
    return _of_study(
        chosen,
        "figures",
        f"patching = {_rows_of_table(chosen, 'patching')}",
        *([f"drift = {_rows_of_table(chosen, 'drift')}"] if with_drift else ()),
        "figure = "
        + call(
            "figures.decided",
            Name("patching"),
            Name("drift" if with_drift else "None"),
            group,
            direction,
            readout,
        ),
    )


def flips(chosen: Selection) -> str:
    return (
        "from cr_interp.figures.flips import flips\nfrom cr_interp.study import open_study, rows_of\n"
        "from cr_interp.tables.flips_by_drift import flips_by_drift\n\n"
        f"study = open_study({chosen.name!r})\n"
        "table = flips_by_drift(study.table('token_drift'), study.table('generations'))\n"
        f"figure = flips(rows_of(table, {_arms(chosen)}{_seeds(chosen)}))\nfigure.show()\n"
    )


def of_table(
    chosen: Selection, table: str, where: str, beside: Mapping[str, str] | None = None, **options: Any
) -> str:
    """Write the recipe of a figure that one table of ``cr-interp explain`` makes by the function at ``module:function``."""
    module, _, function = where.partition(":")
    return (
        f"from {module} import {function}\nfrom cr_interp.study import open_study, rows_of\n\n"
        f"study = open_study({chosen.name!r})\n"
        f"table = {_rows_of_table(chosen, table)}\n"
        + "".join(f"{name} = {_rows_of_table(chosen, each)}\n" for name, each in (beside or {}).items())
        + f"figure = {call(function, Name('table'), **{name: Name(name) for name in beside or {}}, **options)}\nfigure.show()\n"
    )


class Compared(Protocol):
    """The choice from a suite."""

    @property
    def arm(self) -> str: ...
    @property
    def baseline(self) -> str: ...
    @property
    def control(self) -> str: ...
    @property
    def measure(self) -> str: ...


def suite_differences(chosen: Compared, suite: str) -> str:
    return _of_suite(
        suite,
        "compared = " + call("suite.comparisons", Name("mine"), chosen.arm, chosen.baseline, chosen.control),
        "figure = " + call("figures.difference_forest", Name("compared"), chosen.arm, chosen.baseline),
    )


def suite_regimes(chosen: Compared, suite: str, arms: Sequence[str]) -> str:
    return _of_suite(
        suite,
        "rows = " + call("suite.setting_rows", Name("mine"), tuple(arms), chosen.control),
        "figure = " + call("figures.regime_scatter", Name("rows"), chosen.baseline, chosen.arm),
    )


def suite_harm(chosen: Compared, suite: str, arms: Sequence[str]) -> str:
    return _of_suite(
        suite,
        "rows = " + call("suite.setting_rows", Name("mine"), tuple(arms), chosen.control),
        "figure = " + call("figures.harm_forest", Name("rows"), (chosen.baseline, chosen.arm)),
    )


def suite_ablations(chosen: Compared, suite: str) -> str:
    return _of_suite(
        suite,
        "rows = " + call("ablations.ablation_rows", Name("mine"), chosen.control, chosen.baseline),
        "figure = " + call("figures.harm_forest", Name("rows"), Name("ablations.ablation_arms(mine)")),
        modules="suite, ablations, figures",
    )


def suite_training(suite: str, arms: Sequence[str], metrics: Sequence[str]) -> str:
    return _of_suite(
        suite,
        "early = " + call("suite.early_gap", Name("suite.suite_training(mine)"), arms=tuple(arms)),
        "figure = " + call("figures.early_gap_curves", Name("early"), tuple(metrics)),
    )


def suite_drift(chosen: Compared, suite: str, arms: Sequence[str]) -> str:
    measure = chosen.measure
    return _of_suite(
        suite,
        "drift = " + call("suite.suite_drift", Name("mine"), measure, chosen.control),
        "figure = " + call("figures.drift_small_multiples", Name("drift"), measure, tuple(arms), chosen.control),
    )


# -- pieces --------------------------------------------------------------------------------------------------


def imports(modules: str) -> str:
    """Write the import lines of modules named by their last name: ``figures``, and those of ``cr_interp.tables``.

    >>> imports("behaviour, figures")
    'from cr_interp import figures\\nfrom cr_interp.tables import behaviour\\n'
    """
    names = modules.split(", ")
    tables = ", ".join(name for name in names if name != "figures")
    lines = ["from cr_interp import figures"] if "figures" in names else []
    return "\n".join([*lines, *([f"from cr_interp.tables import {tables}"] if tables else [])]) + "\n"


def _of_study(chosen: Selection, modules: str, *body: str, study: str = "open_study, rows_of") -> str:
    first = f"{imports(modules)}from cr_interp.study import {study}\n\nstudy = open_study({chosen.name!r})\n"
    return first + "\n".join(body) + "\nfigure.show()\n"


def _of_suite(suite: str, *body: str, modules: str = "suite, figures") -> str:
    first = f"{imports(modules)}\nmine = suite.open_suite({suite!r})\n"
    return first + "\n".join(body) + "\nfigure.show()\n"


def _arms(chosen: Selection) -> str:
    return f"arms={list(chosen.arms)!r}"


def _seeds(chosen: Selection) -> str:
    return "" if chosen.some_seeds is None else f", seeds={list(chosen.some_seeds)!r}"


def _answers(chosen: Selection) -> str:
    if chosen.some_seeds is None:
        return "answers = study.table('generations')"
    return f"answers = rows_of(study.table('generations'){_seeds(chosen)})"


def _drift(chosen: Selection) -> str:
    table = "study.drift(sinks=True)" if chosen.sinks else "study.drift()"
    return f"drift = rows_of({table}, {_arms(chosen)}{_seeds(chosen)})"


def _rows_of_table(chosen: Selection, name: str) -> str:
    return f"rows_of(study.table({name!r}), {_arms(chosen)}{_seeds(chosen)})"


def _modules(chosen: Selection) -> str:
    return "controls, figures" if chosen.measure in DERIVED else "figures"


def _derived(chosen: Selection) -> tuple[str, ...]:
    """Write the lines that make a measure which the table does not hold of its rows."""
    return ("drift = controls.relative_rows(drift)",) if chosen.measure in DERIVED else ()


def _under(chosen: Selection) -> str:
    return f"drift = drift[drift['control'] == {chosen.control!r}]"


def _maps(chosen: Selection, kind: str) -> tuple[str, ...]:
    rows = f"rows[rows['map'] == {kind!r}]"
    if chosen.some_seeds is not None:
        rows = f"rows_of({rows}{_seeds(chosen)})"
    return "rows = study.table('cka_map')", f"rows = {rows}"
