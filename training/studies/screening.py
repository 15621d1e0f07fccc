"""The rules by which settings are chosen: functions of the baseline's curves on validation items, and of nothing else.

Mental model. Screening yields a row per setting, rate, seed and evaluation. From it follow, in this order and without a look
at any anchored arm: where each curve reaches its plateau, which rate is taken, which settings carry the claim's premise, and
which of them are run. Every rule is a few lines, so that a reader can check it against the preregistration.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from cr_interp.errors import UserError
from training.run.plateau import steps_to_plateau
from training.studies.preregistration import Adaptive, Candidates, Choice, Eligible, Preregistration, Screening

Parts = tuple[Candidates, str, str]
"""group, task, model"""
CURVE = ("setting", "rate", "seed", "step", "acc_x")
OUTCOME = ("setting", "rate", "seed", "acc_x", "harm", "harm_irrelevant", "teacher")


def plateaus(curves: pd.DataFrame, rule: Screening) -> pd.DataFrame:
    """Turn rows :data:`CURVE` into a row per setting and rate: ``steps`` to the plateau, ``acc_x`` there, and ``reached``.

    Each run has its own plateau, where it stops (the cap if it has none). The steps of a rate are the most that one of its
    seeds took, since every seed must have come so far; ``acc_x`` is the mean over seeds of the last window's mean.
    """
    rows = []
    for (setting, rate), of_rate in curves.groupby(["setting", "rate"], sort=True):
        ends, levels, reached = [], [], True
        for _, of_seed in of_rate.sort_values("step").groupby("seed"):
            steps, values = of_seed["step"].astype(int).tolist(), of_seed["acc_x"].tolist()
            found = steps_to_plateau(steps, values, rule.plateau)
            end = steps.index(found) + 1 if found is not None else len(steps)
            ends.append(rule.cap if found is None else found)
            window = values[max(0, end - rule.plateau.window) : end]
            levels.append(sum(window) / len(window))
            reached &= found is not None
        rows.append((setting, rate, max(ends), sum(levels) / len(levels), reached))
    return pd.DataFrame(rows, columns=["setting", "rate", "steps", "acc_x", "reached"])


def chosen_rates(found: pd.DataFrame, rule: Screening) -> pd.DataFrame:
    """Choose, of each setting's rates within ``rule.within`` of the best plateau, the one with the fewest steps to it.

    Of equal ones the rate that ``rule.of_equal`` says. Columns of :func:`plateaus`, and ``train_steps``, what every arm gets."""
    rows = []
    for _, of_setting in found.groupby("setting", sort=True):
        close = of_setting[of_setting["acc_x"] >= of_setting["acc_x"].max() - rule.within - 1e-12]
        rows.append(close.sort_values(["steps", "rate"], ascending=[True, rule.of_equal == "lowest"]).iloc[0])
    taken = pd.DataFrame(rows).reset_index(drop=True)
    return taken.assign(train_steps=[math.ceil(rule.stretch * steps) for steps in taken["steps"]])


def eligibility(outcomes: pd.DataFrame, rule: Eligible) -> pd.DataFrame:
    """Turn rows :data:`OUTCOME` (one a seed, at the chosen rate) into a row per setting: the means, and whether each
    condition holds.
    """
    mean = outcomes.groupby("setting")[["acc_x", "harm", "harm_irrelevant", "teacher"]].mean()
    mean["internalised"] = mean["acc_x"] >= rule.of_teacher * mean["teacher"]
    mean["harmed"] = mean["harm"] >= rule.harm
    mean["of_the_context"] = mean["harm"] - mean["harm_irrelevant"] >= rule.above_irrelevant
    mean["eligible"] = mean[["internalised", "harmed", "of_the_context"]].all(axis=1)
    return mean.reset_index()


def judged(
    curves: pd.DataFrame, outcomes: pd.DataFrame, plan: Preregistration
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn rows :data:`CURVE` and :data:`OUTCOME` into the grid (:func:`plateaus`) and a row per setting: its chosen rate and
    steps, and what :func:`eligibility` says.

    Raises :class:`UserError` for outcomes of another rate than the curves choose.
    """
    grid = plateaus(curves, plan.screening)
    rates = chosen_rates(grid, plan.screening).drop(columns="acc_x")
    at = rates.set_index("setting")["rate"]
    if wrong := sorted(set(outcomes.loc[outcomes["rate"] != outcomes["setting"].map(at), "setting"])):
        raise UserError(
            f"What screening found of {', '.join(wrong)} is of another rate than its curves choose. Remove its file, so that it "
            f"is screened again."
        )
    return grid, rates.merge(eligibility(outcomes, plan.eligible), on="setting", how="left")


def choose(eligible: Sequence[str], plan: Preregistration) -> list[str]:
    """Choose the first settings in the hash's order, at most so many of a task, spread over families and games.

    Settings are taken in turn; one is passed over where its task is full, or where the places that are left are needed for
    families or games that are still missing and that later candidates can bring. Fewer than asked for are all there are.
    """
    about = {setting: plan.parts(setting) for setting in eligible}
    waiting, taken = sorted(eligible, key=plan.order), list[str]()
    while waiting and len(taken) < plan.choice.settings:
        fits = next((each for each in waiting if _fits(each, taken, waiting, about, plan.choice)), None)
        if fits is None:
            break
        taken.append(fits)
        waiting.remove(fits)
    return taken


def is_settled(taken: Sequence[str], without_harm: int, plan: Preregistration) -> bool:
    """Say whether the first settings in the hash's order decide the choice, of which ``taken`` are chosen and ``without_harm``
    are sentinels without Harm.

    They do when every place is taken, families and games are as many as asked for, and so are those sentinels: whatever comes
    later in the order could neither take a place nor have one kept for it.
    """
    about = [plan.parts(setting) for setting in taken]
    return (
        len(about) == plan.choice.settings
        and len({model for _, _, model in about}) >= plan.choice.families
        and sum(group.games for group, *_ in about) >= plan.choice.games
        and without_harm >= plan.sentinels.without_harm
    )


def sentinels(found: pd.DataFrame, plan: Preregistration) -> pd.DataFrame:
    """Return settings that are run beside the chosen ones and counted apart: a row each, ``name, setting, kind, rate,
    train_steps``.

    ``harmless``: the context is internalised and giving it back does no harm, so an anchor has nothing to mend. ``early``:
    chosen settings, stopped at a share of their plateau, where the context still helps. Of each kind the first in the hash's
    order.
    """
    rule, inside = plan.sentinels, found.sort_values("order")
    without = inside[inside["internalised"].astype(bool) & (inside["harm"] < rule.harmless)]
    rows = [
        (row.setting, row.setting, "harmless", row.rate, row.train_steps)
        for row in without.head(rule.without_harm).itertuples()
    ]
    for row in inside[inside["chosen"].astype(bool)].head(rule.stopped_early).itertuples():
        steps = math.ceil(rule.early * row.steps)
        rows.append((f"early-{row.setting}", row.setting, "early", row.rate, steps))
    return pd.DataFrame(rows, columns=["name", "setting", "kind", "rate", "train_steps"])


def best_form(tried: pd.DataFrame, rule: Adaptive, baseline: str, anchored: str = "nca") -> pd.DataFrame:
    """Turn rows ``kind, arm, metric, estimate`` (means over seeds of one setting) into a row per form, the chosen one first.

    ``kind`` is ``harmed`` or ``early``. Columns: ``form, harm, acc_xc_early, obeys, misses``; ``misses`` is by how much the
    form breaks the bounds of :class:`Adaptive`, 0 if it keeps both.
    """
    mean = tried.groupby(["kind", "arm", "metric"])["estimate"].mean()

    def of(kind: str, arm: str, metric: str) -> float:
        return float(mean.get((kind, arm, metric), math.nan))

    rows = []
    for form in rule.forms:
        harm, kept = of("harmed", form, "harm"), of("early", form, "acc_xc")
        over = max(0.0, harm - of("harmed", anchored, "harm") - rule.harm)
        under = max(0.0, of("early", baseline, "acc_xc") - kept - rule.loss)
        rows.append((form, harm, kept, of("harmed", form, "new_instruction"), over + under))
    table = pd.DataFrame(rows, columns=["form", "harm", "acc_xc_early", "obeys", "misses"])
    return table.sort_values(["misses", "obeys"], ascending=[True, False], ignore_index=True)


def _fits(
    setting: str, taken: Sequence[str], waiting: Sequence[str], about: Mapping[str, Parts], rule: Choice
) -> bool:
    after, rest = [*taken, setting], [each for each in waiting if each != setting]
    kinds = [about[each][1].partition(":")[0] for each in after]  # whatever the rule, book or legend
    if kinds.count(kinds[-1]) > rule.of_one_task:
        return False
    families = {about[each][2] for each in after}
    missing = min(rule.families - len(families), len({about[each][2] for each in rest} - families))
    games, later = (sum(about[each][0].games for each in some) for some in (after, rest))
    return rule.settings - len(after) >= max(missing, min(rule.games - games, later), 0)
