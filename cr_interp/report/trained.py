"""What ``cr-interp explain`` prints of training's traces: updates, gradients, directions with a verdict, probes; flips by drift.

Each is a table for the terminal, with the control of every number beside it.
"""

import pandas as pd
from rich.table import Table

from cr_interp.study.study import Study
from cr_interp.system.percent import number
from cr_interp.system.shown import PlainTable, literal
from cr_interp.tables.directions import verdicts
from cr_interp.tables.flips_by_drift import flips_by_drift, over_seeds
from cr_interp.tables.gradients import beside_baseline
from cr_interp.tables.probes import QUESTIONS, probe_table
from cr_interp.tables.updates import by_module, overlap_table
from cr_interp.vocabulary import arm_order, layer_name


def rich_updates(study: Study) -> Table:
    """Return per module the relative and the absolute norm of ΔW, its stable rank and the share in W's leading directions."""
    updates = study.table("updates")
    of = {measure: by_module(updates, measure) for measure in ("relative", "norm", "stable_rank", "top_share")}
    table = PlainTable(
        f"{study.name}: updates, all layers of a module together",
        caption=f"Means over seeds; in round brackets what random matrices of these shapes have.{_overlaps(study)}",
    )
    _columns(table, ("arm", "module"), ("‖ΔW‖/‖W‖", "‖ΔW‖", "stable rank", "in leading tenth", "seeds"))
    relative = of["relative"].sort_values("estimate", ascending=False, kind="stable")
    for arm in arm_order(relative["arm"]):
        for row in relative[relative["arm"] == arm].itertuples():
            norm = _at(of["norm"], arm, row.module)
            if not (norm > 0):
                continue
            cells = [arm, row.module, f"{row.estimate:.4f}", f"{norm:.3f}"]
            for measure in ("stable_rank", "top_share"):
                value, chance = (_at(of[measure], arm, row.module, control) for control in ("none", "random"))
                digits = 1 if measure == "stable_rank" else 3
                cells.append("–" if pd.isna(value) else f"{value:.{digits}f} ({chance:.{digits}f})")
            _row(table, [*cells, row.seeds])
    return table


def _at(of: pd.DataFrame, arm: str, module: str, control: str = "none") -> float:
    found = of.loc[(of["arm"] == arm) & (of["module"] == module) & (of["control"] == control), "estimate"]
    return float(found.iloc[0]) if len(found) else float("nan")


def _overlaps(study: Study) -> str:
    if not study.has_table("update_overlaps"):
        return ""
    drawn = overlap_table(study.table("update_overlaps"))
    drawn = drawn[drawn["control"] == "none"]
    place = {arm: i for i, arm in enumerate(arm_order([*drawn["arm"], *drawn["other_arm"]]))}
    said = [
        f"{row.arm} and {row.other_arm} {number(row.estimate, 2)} [{number(row.low, 2)}, {number(row.high, 2)}]"
        for row in drawn.itertuples()
        if place[row.arm] <= place[row.other_arm]
    ]
    return f" Cosine of two runs' ΔW, mean over weights [outermost pairs]: {'; '.join(said)}." if said else ""


def rich_gradients(study: Study, module: str = "all") -> Table:
    """Return every pair of terms at each checkpoint: cosine, and what either term has with itself on another half."""
    table = PlainTable(
        f"{study.name}: cosines of the terms' gradients, {module} weights together",
        caption="Own: each term with itself on the other half of the prompts. Halves: the two terms likewise. Without noise: "
        "corrected for it, – where a term does not agree with itself. Means over seeds, 95 % by jackknife within them.",
    )
    _columns(
        table,
        ("arm", "step", "term", "other"),
        ("cosine [95 %]", "halves", "own", "other own", "without noise", "n"),
    )
    for row in beside_baseline(study.table("gradients"), module, every=True).itertuples():
        value = f"{number(row.cosine, 2)}\n[{number(row.low, 2)}, {number(row.high, 2)}]"
        rest = [number(each, 2) for each in (row.halves, row.own, row.other_own, row.corrected)]
        _row(table, [row.arm, row.step, row.term, row.other_term, value, *rest, row.n_examples])
    return table


def rich_directions(study: Study) -> Table:
    """Return the verdict on the double dose, run by run."""
    examples = study.table("direction_examples") if study.has_table("direction_examples") else None
    groups = [] if examples is None else [g for g in ("harmed", "changed") if g in set(examples["group"])]
    group = groups[0] if groups else "harmed"
    if examples is None or examples.empty:
        examples = pd.DataFrame(
            columns=[
                "arm",
                "seed",
                "step",
                "group",
                "action",
                "vector",
                "layer",
                "control",
                "example_id",
                "cluster",
                "answer",
            ]
        )
    every = verdicts(study.table("directions"), examples, group)
    reasons: dict[str, list[str]] = {}
    for found in every:
        reasons.setdefault(found.why, []).append(f"{found.arm} {found.seed}")
    because = "; ".join(", ".join(runs) + f": {why}" for why, runs in reasons.items())
    table = PlainTable(
        f"{study.name}: is the returning context a second dose of what was learnt?",
        caption=f"Layer: where removing v of the base returns most {group} answers beyond the better control; the interval holds "
        "for all layers at once. Below the layer: cosine of u with v of the base. If added: answers lost when v is put into the "
        "run without the context, as a second dose should lose them. With adding: double dose, and in the same layer adding v "
        "loses more answers than the controls do. Below the share: by how much more than the control that loses more, in the "
        f"layer where this is surest, for all layers at once. {because}.",
    )
    _columns(table, ("run", "double dose"), ("layer", "back", "beyond [95 %]", "if added", "n"))
    for found in every:
        ends = f"{number(found.beyond, 2)}\n[{number(found.low, 2)}, {number(found.high, 2)}]"
        lost = number(found.lost, 2)
        if found.added_layer is not None:
            lost += f"\n{found.added_layer}: {number(found.added_beyond, 2)}"
            lost += f"\n[{number(found.added_low, 2)}, {number(found.added_high, 2)}]"
        cells = [
            f"{found.arm} {found.seed}",
            f"{found.verdict}\nwith adding:\n{found.stronger}",
            "–" if found.layer is None else f"{found.layer}\n{number(found.cosine, 2)}",
            number(found.repaired, 2),
            "–" if found.layer is None else ends,
        ]
        _row(table, [*cells, lost, found.n_examples])
    return table


def rich_probes(study: Study) -> Table:
    """Return the AUROC of both questions at the embedding, in the middle and behind the last layer, beside shuffled labels."""
    table = PlainTable(
        f"{study.name}: can a linear probe tell that the context is there?",
        caption="AUROC on prompts of other clusters, ½ is chance; 95 % over clusters within runs. In round brackets: shuffled "
        "labels. What can be decoded need not be used.",
    )
    _columns(table, ("arm", "question", "tried on"), ("embedding", "middle", "last", "n"))
    for question in QUESTIONS:
        drawn = probe_table(study.table("probes"), question)
        for arm in arm_order(drawn["arm"]):
            of = drawn[drawn["arm"] == arm]
            places = sorted(of["place"].unique())
            cells = [arm, QUESTIONS[question], str(of["tested"].iloc[0])]
            for place in (places[0], places[len(places) // 2], places[-1]):
                at = of[of["place"] == place].set_index("control")
                row = at.loc["none"]
                shuffled, ends = (
                    at.loc["shuffled", "estimate"],
                    [number(row[each], 2) for each in ("low", "high")],
                )
                cells.append(f"{number(row['estimate'], 2)} ({number(shuffled, 2)})\n[{', '.join(ends)}]")
            _row(table, [*cells, int(of["n_examples"].min())])
    return table


def rich_flips(study: Study, measure: str = "cosine") -> Table | None:
    """Show whether drift tells which answers flip, layer by layer; None where the study's tables do not say."""
    if not (study.has_table("token_drift") and study.has_table("generations")):
        return None
    found = over_seeds(flips_by_drift(study.table("token_drift"), study.table("generations"), measure))
    if found.empty:
        return None
    counts = "; ".join(
        f"{arm} {rows['n_flipped'].iloc[0]} flipped, {rows['n_kept'].iloc[0]} kept, {rows['seeds'].iloc[0]} "
        f"seed{'' if rows['seeds'].iloc[0] == 1 else 's'}"
        for arm, rows in found.groupby("arm", sort=False)
    )
    table = PlainTable(
        f"{study.name}: does drift tell which answers flip? ({measure})",
        caption="AUROC: the chance that a flipped answer's states moved farther than a kept one's; ½ says nothing. In class: "
        "among examples with the same right answer. 95 % over clusters within runs, the outermost ends of several seeds. "
        "p belongs to the number left of it: the chance that any layer lies so far from ½, by one permutation for all layers; of "
        f"several seeds the largest. {counts}.",
    )
    _columns(table, ("arm", "layer"), ("AUROC [95 %]", "p", "in class [95 %]", "p "))
    for row in found.itertuples():
        of, within = (
            "–" if pd.isna(value) else f"{number(value, 2)} [{number(low, 2)}, {number(high, 2)}]"
            for value, low, high in (
                (row.estimate, row.low, row.high),
                (row.within_class, row.within_low, row.within_high),
            )
        )
        _row(table, [row.arm, layer_name(row.place), of, _chance(row.p), within, _chance(row.within_p)])
    return table


#: analysis → what is printed behind it.
PRINTED = {
    "updates": rich_updates,
    "directions": rich_directions,
    "gradients": rich_gradients,
    "probes": rich_probes,
}


def _columns(table: Table, left: tuple[str, ...], right: tuple[str, ...]) -> None:
    """Add columns whose numbers are never cut; words may wrap."""
    for column in (*left, *right):
        words = column in ("term", "other", "question", "tried on", "because")
        side = "left" if words or column in left else "right"
        table.add_column(column, justify=side, no_wrap=not words)  # type: ignore[arg-type]


def _row(table: Table, cells: list[object]) -> None:
    table.add_row(*(literal(str(cell)) for cell in cells))


def _chance(p: float) -> str:
    return "–" if pd.isna(p) else f"{p:.3f}"
