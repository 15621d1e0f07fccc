"""What the pages say of why answers flip, from the bundled studies' tables of mechanism.

Mental model: as ``results.py``, for the tables that ``cr-interp explain`` fills. A template calls these functions; a number is
a mean over seeds, every interval the outermost ends of the seeds' own (within runs), every control stands at the same place.
"""

from collections.abc import Iterable
from functools import cache

import pandas as pd

from cr_interp.mechanism.answers import answers_of
from cr_interp.study.searching import open_study
from cr_interp.tables.attribution import first_cells
from cr_interp.tables.claims import ALPHA
from cr_interp.tables.directions import Verdict, direction_table, effect_table, verdicts
from cr_interp.tables.flips_by_drift import flips_by_drift, over_seeds
from cr_interp.tables.gradients import beside_baseline
from cr_interp.tables.knockout import strongest_cuts
from cr_interp.tables.patching import other_answers, patching_table
from cr_interp.tables.patching_claims import patching_claims
from cr_interp.tables.probes import probe_table
from cr_interp.tables.suite import open_suite
from cr_interp.tables.updates import by_module
from cr_interp.vocabulary import layer_name

SITES = ("resid_post", "attn_out", "mlp_out")


@cache
def table(name: str, of: str) -> pd.DataFrame:
    return open_study(name).table(of)


@cache
def all_patched(name: str, group: str, direction: str, readout: str) -> pd.DataFrame:
    """Return the patches of every arm. Here and below: one table for all arms, of which each arm takes its rows."""
    return patching_table(table(name, "patching"), group, direction, readout)


@cache
def patched(
    name: str, arm: str, readout: str = "answer", direction: str = "repair", group: str = "harmed"
) -> pd.DataFrame:
    """Map site and place → the effect with its interval, and the two controls at the same place."""
    rows = all_patched(name, group, direction, readout)
    rows = rows[rows["arm"] == arm]
    real = rows[rows["control"] == "none"].set_index(["site", "place"])
    for control in ("random", "other"):
        at = rows[rows["control"] == control].set_index(["site", "place"])["estimate"]
        real[control] = at.reindex(real.index)
    return real.drop(columns="control")


def share(
    name: str, arm: str, site: str, place: int, direction: str = "repair", readout: str = "answer"
) -> float:
    return float(patched(name, arm, readout, direction).loc[(site, place), "estimate"])


def control(
    name: str, arm: str, site: str, place: int, which: str, direction: str = "repair", readout: str = "answer"
) -> float:
    return float(patched(name, arm, readout, direction).loc[(site, place), which])


@cache
def all_claimed(name: str, direction: str, group: str) -> pd.DataFrame:
    return patching_claims(table(name, "patching_examples"), group, direction)


@cache
def claimed(name: str, arm: str, direction: str = "repair", group: str = "harmed") -> pd.Series:
    """Map site and place → p of the claim that a patch there does more than both controls, for all places at once."""
    rows = all_claimed(name, direction, group)
    return rows[rows["arm"] == arm].set_index(["site", "place"])["p"]


def layers_claimed(name: str, arm: str, site: str) -> list[str]:
    """Name the layers that may be named after looking."""
    chances = claimed(name, arm)[site]
    return [layer_name(place) for place in chances.index[chances <= ALPHA]]


def partners(name: str, arm: str, group: str = "harmed") -> str:
    """Say how many of the other examples, whose state is a control, have another answer."""
    rows = all_patched(name, group, "repair", "answer")
    return other_answers(rows[rows["arm"] == arm])


def patched_markdown(name: str, arm: str, direction: str = "repair") -> str:
    """Return a row per layer, a column per site: share of whole answers that return [interval]; in round brackets both
    controls.

    Bold: beyond both controls in every seed.
    """
    rows, chances = patched(name, arm, "answer", direction), claimed(name, arm, direction)
    lines = ["| layer | " + " | ".join(f"`{site}`" for site in SITES) + " |", "|---|" + "---|" * len(SITES)]
    for place in sorted({place for _, place in rows.index}):
        cells = []
        for site in SITES:
            if (site, place) not in rows.index:
                cells.append("–")
                continue
            at = rows.loc[(site, place)]
            strong = "**" if chances.get((site, place), 1.0) <= ALPHA else ""
            ends = f"[{at['low']:.2f}, {at['high']:.2f}]"
            cells.append(f"{strong}{at['estimate']:.2f}{strong} {ends} ({at['random']:.2f}, {at['other']:.2f})")
        lines.append(f"| {layer_name(place)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kept_left(name: str, arm: str, site: str, place: int, which: str = "none") -> float:
    """Return share of kept answers that are still there under the same patch, or under a control of it."""
    row = patched(name, arm, "answer", "repair", "kept").loc[(site, place)]
    return float(row["estimate" if which == "none" else which])


def strong_markdown(name: str, arm: str, least: float = 0.5) -> str:
    """List the places whose patch returns at least this share of answers: controls, p, and what is left of kept answers."""
    rows, chances = patched(name, arm), claimed(name, arm)
    lines = [
        "| site | layer | answers back | random | other example | p | kept answers left | with another example's state |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for site, place in rows.index[rows["estimate"] >= least]:
        at = rows.loc[(site, place)]
        kept, lost = (kept_left(name, arm, site, place, which) for which in ("none", "other"))
        lines.append(
            f"| `{site}` | {layer_name(place)} | {at['estimate']:.2f} [{at['low']:.2f}, {at['high']:.2f}] | {at['random']:.2f} | "
            f"{at['other']:.2f} | {chances[site, place]:.3f} | {kept:.2f} | {lost:.2f} |"
        )
    return "\n".join(lines)


def flips(name: str, arm: str, group: str = "harmed") -> str:
    """Count the answers of a group that were patched, seed by seed."""
    rows = table(name, "patching")
    rows = rows[(rows["arm"] == arm) & (rows["group"] == group)]
    return " + ".join(str(int(n)) for n in rows.groupby("seed")["n_examples"].max()) or "0"


def heads_markdown(name: str, arm: str, count: int = 3) -> str:
    """Return the heads that repair most, with both controls at the same head, and in how many seeds each was patched."""
    rows = first_cells(table(name, "patching_heads"), count, "share")
    rows = rows[(rows["arm"] == arm) & (rows["group"] == "harmed") & (rows["direction"] == "repair")]
    lines = [
        "| layer | head | recovered share | random | other example | seeds | n |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.layer} | {row.head} | {row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}] | {_number(row.random)} | "
        f"{_number(row.other)} | {row.seeds} | {int(row.n_examples)} |"
        for row in rows.itertuples()
    ]
    return "\n".join(lines)


def first_head(name: str, arm: str) -> pd.Series:
    """Return the head that repairs most: ``layer, head, estimate, random, other``."""
    rows = first_cells(table(name, "patching_heads"), 1, "share")
    return rows[(rows["arm"] == arm) & (rows["group"] == "harmed") & (rows["direction"] == "repair")].iloc[0]


def harmed_of(name: str, arm: str, seed: int = 0) -> int:
    """Count the answers of a run that are right without the context and wrong with it."""
    rows = table(name, "generations")
    return sum(each.group == "harmed" for each in answers_of(rows[(rows["arm"] == arm) & (rows["seed"] == seed)]))


@cache
def all_cuts(name: str) -> pd.DataFrame:
    return strongest_cuts(table(name, "knockout"), "answer")


@cache
def cuts(name: str, arm: str) -> pd.DataFrame:
    """Map span and readers → what cutting it in all layers brings back, beside tokens cut elsewhere."""
    rows = all_cuts(name)
    return rows[(rows["arm"] == arm) & (rows["group"] == "harmed")].set_index(["span", "readers"])


def cuts_markdown(name: str, arm: str) -> str:
    """Return a row per span and readers: harmed answers that are back, those of the control, kept answers that are left."""
    lines = [
        "| span | tokens (control) | who loses it | all layers | control | kept answers left | best single layer | control | "
        "kept answers left |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    who = {"aligned": "aligned positions", "all": "all tokens"}
    for (span, readers), row in cuts(name, arm).iterrows():
        one = "–"
        if pd.notna(row["estimate"]):
            one = f"{int(row['layer'])}: {row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        lines.append(
            f"| {span} | {row['cut']:.0f} ({row['cut_elsewhere']:.0f}) | {who[readers]} | "
            f"{row['all']:.2f} [{row['all_low']:.2f}, {row['all_high']:.2f}] | {_number(row['all_elsewhere'])} | "
            f"{_number(row['all_kept'])} | {one} | {_number(row['elsewhere'])} | {_number(row['kept'])} |"
        )
    return "\n".join(lines)


@cache
def all_doses(name: str) -> list[Verdict]:
    return verdicts(table(name, "directions"), table(name, "direction_examples"), "harmed")


@cache
def doses(name: str, arm: str) -> list[Verdict]:
    """Return the verdict on every run of an arm, whether the returning context is a second dose of what was learnt."""
    return [each for each in all_doses(name) if each.arm == arm]


def doses_markdown(name: str, arms: Iterable[str]) -> str:
    lines = [
        "| arm | seed | double dose | layer | cos(u, v) | back without v | beyond the better control | with adding | "
        "lost with v, beyond the control that loses more | harmed answers |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        for each in doses(name, arm):
            layer = "–" if each.layer is None else layer_name(each.layer)
            beyond = "–" if pd.isna(each.beyond) else f"{each.beyond:.2f} [{each.low:.2f}, {each.high:.2f}]"
            added = "–"
            if each.added_layer is not None:
                ends = f"[{each.added_low:.2f}, {each.added_high:.2f}]"
                added = f"{layer_name(each.added_layer)}: {each.added_beyond:.2f} {ends}"
            lines.append(
                f"| {arm} | {each.seed} | {each.verdict} | {layer} | {_number(each.cosine)} | {_number(each.repaired)} | "
                f"{beyond} | {each.stronger} | {added} | {each.n_examples} |"
            )
    return "\n".join(lines)


@cache
def cosines(name: str, arm: str, seed: int | None = None) -> pd.Series:
    """Give the cosine of ``opd``'s gradient and the anchor's at the last checkpoint, all weights together; of one run, or over
    seeds.
    """
    rows = table(name, "gradients")
    rows = rows[(rows["arm"] == arm) & (True if seed is None else rows["seed"] == seed)]
    both = beside_baseline(rows)
    both = both[both["other_term"].str.contains("q_c") & ~both["other_term"].str.contains("f")]
    return both[both["term"] == "KL(q_x || f)"].iloc[-1]


@cache
def all_updated(name: str) -> pd.DataFrame:
    return by_module(table(name, "updates"), "relative")


@cache
def updated(name: str, arm: str) -> pd.Series:
    """Map module → ‖ΔW‖/‖W‖, all layers together, mean over seeds."""
    rows = all_updated(name)
    return rows[(rows["arm"] == arm) & (rows["control"] == "none")].set_index("module")["estimate"]


def kinds(name: str, arm: str) -> tuple[float, float]:
    """Return means of ‖ΔW‖/‖W‖ over the attention's query and key maps, and over the MLP's."""
    found = updated(name, arm)
    queries = found[[each for each in found.index if each.endswith(("q_proj", "k_proj"))]].mean()
    return float(queries), float(found[[each for each in found.index if each.startswith("mlp")]].mean())


@cache
def told(name: str, arm: str, question: str) -> tuple[float, float]:
    """Return AUROC of a linear probe, and with shuffled labels, in the middle of the network."""
    rows = probe_table(table(name, "probes"), question)
    rows = rows[rows["arm"] == arm]
    places = sorted(rows["place"].unique())
    at = rows[rows["place"] == places[len(places) // 2]].set_index("control")["estimate"]
    return float(at["none"]), float(at["shuffled"])


def told_at(name: str, arm: str, question: str, layer: int) -> float:
    """Return AUROC of a linear probe behind a layer."""
    rows = probe_table(table(name, "probes"), question)
    rows = rows[(rows["arm"] == arm) & (rows["place"] == layer) & (rows["control"] == "none")]
    return float(rows["estimate"].iloc[0])


@cache
def all_told(name: str) -> pd.DataFrame:
    return over_seeds(flips_by_drift(table(name, "token_drift"), table(name, "generations")))


@cache
def drift_tells(name: str, arm: str) -> pd.DataFrame:
    """Place → AUROC of an example's drift (1 − cosine) for its flip, over seeds."""
    found = all_told(name)
    return found[found["arm"] == arm].set_index("place")


def first_where(name: str, arm: str, above: float, site: str = "resid_post") -> int:
    """Return the first layer from which patching returns at least this share of answers."""
    rows = patched(name, arm).loc[site]["estimate"].sort_index()
    return int(rows[rows >= above].index[0])


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def verdicts_of(name: str, arm: str) -> list[str]:
    return [each.verdict for each in doses(name, arm)]


def most_repaired(name: str) -> float:
    """Return the largest share of answers, of all runs, that are back once ``v`` is taken out."""
    return max(each.repaired for each in all_doses(name) if pd.notna(each.repaired))


def most_beyond(name: str, arm: str) -> float:
    """Return, of the run where most are, by how many more answers are back without ``v`` than with the better control."""
    return max(each.beyond for each in doses(name, arm))


def stronger_of(name: str, arm: str) -> list[str]:
    """Return the stronger reading of every run: the verdict, and adding v breaks answers too."""
    return [each.stronger for each in doses(name, arm)]


def turned(name: str, arm: str) -> pd.Series:
    """Map layer → cosine of what training did (u) with what the context does to the base (v), mean over seeds."""
    rows = direction_table(table(name, "directions"))
    rows = rows[(rows["arm"] == arm) & (rows["control"] == "none")]
    return rows.set_index(rows["layer"].astype(int))["estimate"]


@cache
def lost_by_adding(name: str, arm: str, group: str) -> float:
    """Return the share of a group's answers lost when v of the base is added to the run without context; of the worst layer."""
    rows = effect_table(table(name, "direction_effects"), group, "add", "base", "answer")
    rows = rows[(rows["arm"] == arm) & (rows["control"] == "none")]
    return float(rows["estimate"].max())


@cache
def lowest(name: str, arm: str) -> int:
    """Return the layer of an arm's lowest cosine between the views, mean over seeds, of the blocks' outputs."""
    rows = table(name, "drift")
    rows = rows[
        (rows["arm"] == arm)
        & (rows["measure"] == "cosine")
        & (rows["control"] == "exact")
        & (rows["site"] == "resid_post")
    ]
    return int(rows.groupby("layer")["estimate"].mean().idxmin())


def settings_of(suite: str) -> list[str]:
    """Name the settings of a suite as studies, in the order of the suite's own list."""
    return [f"{suite}/{each}" for each in open_suite(suite).studies]


def all_claimed_at(name: str, arm: str, site: str) -> str:
    """List the layers where a patch does more than both controls in every seed, with the share it returns; else a dash."""
    chances, rows = claimed(name, arm), patched(name, arm)
    places = sorted(place for at, place in chances.index if at == site and chances[at, place] <= ALPHA)
    return ", ".join(f"{layer_name(each)}: {rows.loc[(site, each), 'estimate']:.2f}" for each in places) or "–"


def turns_at(name: str, arm: str, site: str = "resid_post") -> str:
    """Name the first layer whose patch returns half of the answers, and that share."""
    place = first_where(name, arm, 0.5, site)
    return f"{layer_name(place)}: {share(name, arm, site, place):.2f}"


def settings_markdown(suite: str, arms: Iterable[str] = ("opd", "nca")) -> str:
    """Return a row per setting and arm with harmed answers: where they are decided, and what the controls allow."""
    lines = [
        "| setting | arm | harmed answers | half are back from layer (stream) | more than both controls at (stream) | "
        "(attention) | (MLP) | context cut off from all tokens | double dose, by seed | lowest cosine at |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in settings_of(suite):
        for arm in arms:
            if flips(name, arm).strip("0 +") == "":
                lines.append(
                    f"| `{name.partition('/')[2]}` | {arm} | 0 | – | – | – | – | – | – | {layer_name(lowest(name, arm))} |"
                )
                continue
            cut = cuts(name, arm).loc[("context", "all")]
            lines.append(
                f"| `{name.partition('/')[2]}` | {arm} | {flips(name, arm)} | {turns_at(name, arm)} | "
                + " | ".join(all_claimed_at(name, arm, site) for site in SITES)
                + f" | {cut['all']:.2f} [{cut['all_low']:.2f}, {cut['all_high']:.2f}] | {', '.join(verdicts_of(name, arm))} | "
                f"{layer_name(lowest(name, arm))} |"
            )
    return "\n".join(lines)


def remarks_markdown(suite: str) -> str:
    """Return a row per setting on the paper's two remarks: the cosine of the terms' gradients, and where updates are large."""
    lines = [
        "| setting | cosine at the base | at `opd` | `opd`'s own, other half | ‖ΔW‖/‖W‖ in query and key maps | in the MLPs |",
        "|---|---|---|---|---|---|",
    ]
    for name in settings_of(suite):
        start, at, (queries, rest) = cosines(name, "base"), cosines(name, "opd"), kinds(name, "opd")
        lines.append(
            f"| `{name.partition('/')[2]}` | {start.cosine:.2f} [{start.low:.2f}, {start.high:.2f}] | "
            f"{at.cosine:.2f} [{at.low:.2f}, {at.high:.2f}] | {at.own:.2f} | {queries:.3f} | {rest:.3f} |"
        )
    return "\n".join(lines)


def same_as(suite: str, again: str) -> str:
    """Say how many outcomes of runs made again are those of the published runs, setting by setting."""
    settings = {name.partition("/")[2]: name for name in settings_of(again)}
    return ", ".join(f"{same_as_study(f'{suite}/{each}', name)} (`{each}`)" for each, name in settings.items())


def same_as_study(published: str, again: str) -> str:
    """Say how many outcomes of a study made again are those of the published one, answer by answer."""
    key = ["arm", "seed", "example_id", "view", "control", "sample"]
    both = table(again, "generations").merge(table(published, "generations"), on=key, suffixes=("", "_before"))
    base, same = both[both["arm"] == "base"], both["outcome"] == both["outcome_before"]
    assert (base["outcome"] == base["outcome_before"]).all()
    return f"{same.sum():,} of {len(both):,}"


def everywhere(suite: str, remark: str) -> bool:
    """Tell whether every setting bears out a sentence on the terms' gradients (orthogonal) or on the updates (alike)."""
    for name in settings_of(suite):
        start, at, (queries, rest) = cosines(name, "base"), cosines(name, "opd"), kinds(name, "opd")
        if remark == "orthogonal" and not (abs(at.cosine) < 0.1 and -0.25 < start.cosine < 0.0 and at.own < 0.35):
            return False
        if remark == "alike" and not 6 / 7 <= queries / rest <= 7 / 6:
            return False
    return True
