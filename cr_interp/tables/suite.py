"""A suite: several studies (settings) side by side, which together make the paper's table.

Mental model: a suite is a folder of ordinary studies, ``SUITE/<setting>/manifest.json …``, and has no manifest of its own. So
nothing here reads a file by itself. A setting is a :class:`~cr_interp.study.study.Study`. Every table below is one of a
single study, made for each setting and stacked, with a column ``setting`` in front.

    suite_table      every metric of every setting, arm and seed       (what ``cr-interp table SUITE --json`` prints)
    setting_rows     a row per setting and arm                         (what is printed)
    comparisons      arm − baseline in each setting, paired
    counts           in how many settings each claim holds (``claims.py``)
    suite_drift      a measure per setting, arm and layer
    suite_training   what was evaluated during training; early_gap is its mean over settings

A suite may be half done. A setting without ``generations`` is left out of the tables of answers, one without both arms
out of the comparisons, and :func:`unfinished` says which and why; a count therefore always has its own ``of``. Settings
are not a sample from anything, so no interval is ever drawn over them, but for :func:`early_gap`, which says so.

Everything is a function from studies to tables and needs no torch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cr_interp.errors import UserError, unknown
from cr_interp.statistics import bootstrap_weights, holm
from cr_interp.statistics import interval as percentiles
from cr_interp.study.rows import counted_split, last_step
from cr_interp.study.searching import find_studies, search_paths, studies_in
from cr_interp.study.study import Study
from cr_interp.system.notes import say
from cr_interp.tables.behaviour import METRICS, differences, metrics, regimes
from cr_interp.tables.claims import COMPARED, count_claims
from cr_interp.tables.drift import layer_table
from cr_interp.tables.estimates import Kind
from cr_interp.tables.metrics import metric_table
from cr_interp.tables.stored import stored
from cr_interp.vocabulary import PAPER_ARMS

#: The paper's twelve, mirrored: system-prompt tasks × families, then games × kinds of teacher.
SETTINGS = (
    "rules-llama",
    "rules-qwen3",
    "rules-gemma2",
    "rules-gpt-neox",
    "codebook-llama",
    "codebook-qwen3",
    "codebook-gemma2",
    "codebook-gpt-neox",
    "frozenlake-self",
    "frozenlake-cross",
    "sokoban-self",
    "sokoban-cross",
)
ARMS = PAPER_ARMS
_CHANGE = ("acc_change", "acc_change_low", "acc_change_high")
_COMPARISON = (
    "setting", "metric", "estimate", "low", "high", "n", "interval", "seeds", "excludes_zero", "p", "p_holm", "p_sign_flip",
    "arm_estimate", "baseline_estimate", "baseline_low", "baseline_high", "baseline_interval", "baseline_floor",
)  # fmt: skip
_EARLY = ("arm", "step", "metric", "estimate", "low", "high", "lowest", "highest", "n")


# -- suites on disk ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Suite:
    """Studies by setting, in the order of :data:`SETTINGS`; others after them, sorted."""

    path: Path
    studies: dict[str, Study]
    broken: dict[str, str] = field(default_factory=dict)
    """Settings that could not be opened, and why."""

    @property
    def name(self) -> str:
        return self.path.resolve().name


def find_suites() -> dict[str, Path]:
    """Name → folder of every suite on the search paths."""
    return {name.partition("/")[0]: path.parent for name, path in find_studies().items() if "/" in name}


def is_suite(name_or_path: str | Path) -> bool:
    """Tell whether this is a folder of studies, or the name of one on the search paths."""
    if Path(name_or_path).is_dir():
        return bool(studies_in(Path(name_or_path)))
    return str(name_or_path) in find_suites()


def open_suite(name_or_path: str | Path) -> Suite:
    """Open a suite by its folder, or by its name on the search paths: one that :func:`find_suites` lists.

    Raises :class:`UserError` for a folder without studies, for a single study, and for an unknown name.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if not path.is_dir():
        suites = find_suites()
        if name in find_studies():
            raise _one_study(name)
        if name not in suites:
            raise unknown("suite", name, suites) if suites else _no_suites(name)
        path = suites[name]
    folders = studies_in(path)
    if not folders:
        if path.resolve().name in studies_in(path.resolve().parent):
            raise _one_study(name)
        inside = sorted(each.name for each in path.iterdir())
        raise UserError(
            f"{path} is not a suite: none of its folders is a study (it holds: {', '.join(inside[:8]) or 'nothing'}). "
            f"Give a folder whose sub-folders are studies, one for each setting."
        )
    studies: dict[str, Study] = {}
    broken: dict[str, str] = {}
    for setting in in_order(folders):
        try:
            studies[setting] = Study.open(folders[setting])
        except UserError as error:  # one that is damaged does not take the others away
            broken[setting] = str(error)
    if not studies:
        raise UserError(next(iter(broken.values())))
    for setting, why in broken.items():
        say(f"{setting} is left out of {path}: {why}")
    return Suite(path, studies, broken)


def in_order(settings: Iterable[str]) -> list[str]:
    """Return the settings once each: the paper's order, then the others sorted."""
    found = set(settings)
    return [*(name for name in SETTINGS if name in found), *sorted(found - set(SETTINGS))]


def _one_study(name: str) -> UserError:
    return UserError(f"{name} is one study, not a suite of several. Open it as a study: cr-interp table {name}.")


def _no_suites(name: str) -> UserError:
    looked = ", ".join(str(path) for path in search_paths())
    return UserError(
        f"There is no suite '{name}', and no other in {looked}. A suite is a folder whose sub-folders are studies: "
        f"give its path, or name the folder around it in CR_INTERP_STUDIES."
    )


def unfinished(suite: Suite) -> dict[str, str]:
    """Map setting → what it lacks, for those that are not (or not wholly) in the tables; empty for a finished suite.

    The paper's settings that the folder does not have are listed too, if it has any of them.
    """
    found = {}
    wanted = SETTINGS if set(SETTINGS) & set(suite.studies) else ()
    for setting in in_order([*wanted, *suite.studies]):
        study = suite.studies.get(setting)
        lacking = "no study yet" if study is None else _lacking(study)
        if lacking:
            found[setting] = lacking
    return found


def _lacking(study: Study) -> str:
    """Say what a study's table of answers lacks of its manifest's arms × seeds; empty if nothing."""
    if not _is_evaluated(study):
        return "not evaluated yet"
    if study.manifest.get("finished"):
        return ""
    rows = study.table("generations")
    runs = rows[["arm", "seed"]].drop_duplicates()
    there = set(zip(runs["arm"], runs["seed"], strict=True))
    parts = []
    for arm in study.manifest.get("arms", {}):
        seeds = [str(seed) for seed in study.manifest.get("seeds", []) if (arm, seed) not in there]
        if seeds:
            parts.append(f"{arm} (seed {', '.join(seeds)})")
    return f"not evaluated: {', '.join(parts)}" if parts else ""


def _is_evaluated(study: Study) -> bool:
    return study.has_table("generations") and not study.table("generations").empty


# -- answers -------------------------------------------------------------------------------------------------


def suite_table(suite: Suite, control: str = "exact", interval: Kind = "across") -> pd.DataFrame:
    """Return :func:`~cr_interp.tables.metrics.metric_table` of every setting; columns ``setting, arm, seed, metric, …, n,
    interval``.
    """
    return _stacked(suite, lambda study: metric_table(study, control, interval), _is_evaluated)


def setting_rows(
    suite: Suite, arms: Sequence[str] = ARMS, control: str = "exact", interval: Kind = "across"
) -> pd.DataFrame:
    """Return a row per setting and arm, over seeds; an arm that a setting does not have has no row there.

    Columns ``setting, arm, regime, seeds, n`` (n in pairs of answers), ``interval`` (of which kind the row's are: *within*
    for what has one seed); for each metric its estimate under its own name and the interval as ``<metric>_low,
    <metric>_high``; ``harm_n`` (pairs that are right without the context), ``harm_floor`` (:func:`harm_floor`);
    ``acc_change`` = acc_xc − acc_x with its interval, from which the regime is.
    """

    def rows(study: Study) -> pd.DataFrame:
        answers, split = _answers(study)
        there = [arm for arm in dict.fromkeys(arms) if arm in set(answers["arm"].unique())]
        answers = answers[answers["arm"].isin(there)]
        table = _over_seeds(metrics(answers, control, split=split, interval=interval)).set_index(
            ["arm", "metric"]
        )
        change = regimes(answers, control, split=split).set_index("arm")
        return pd.DataFrame([_setting_row(study, answers, arm, table, change.loc[arm]) for arm in there])

    def kept(study: Study) -> pd.DataFrame:
        given = [list(arms), control, interval, _is_greedy(study)]
        return stored("setting_rows", [study.table_path("generations")], given, lambda: rows(study), study.path)

    columns = ["setting", "arm", "regime", "seeds", "n", "interval"]
    for metric in METRICS:
        columns += [metric, f"{metric}_low", f"{metric}_high"]
    columns += ["harm_n", "harm_floor", *_CHANGE]
    return _stacked(suite, kept, _is_evaluated).reindex(columns=columns)


def _setting_row(study: Study, answers: pd.DataFrame, arm: str, table: Any, change: Any) -> dict[str, Any]:
    mine = answers[answers["arm"] == arm]
    row = {"arm": arm, "regime": change["regime"], "seeds": mine["seed"].nunique()}
    row |= {"n": table.loc[(arm, "acc_x"), "n"], "harm_n": table.loc[(arm, "harm"), "n"]}
    row |= {"interval": table.loc[(arm, "acc_x"), "interval"]}
    for metric in METRICS:
        found = table.loc[(arm, metric)]
        row |= {metric: found["estimate"], f"{metric}_low": found["low"], f"{metric}_high": found["high"]}
    row |= dict(zip(_CHANGE, change[["estimate", "low", "high"]], strict=True))
    return row | {"harm_floor": harm_floor(mine, _is_greedy(study))}


def harm_floor(generations: pd.DataFrame, greedy: bool = True) -> float:
    """Estimate what Harm would be if the context changed nothing: 1 − E[p²] / E[p], p an example's chance to be right.

    A sampled answer is sometimes right and sometimes wrong by itself. E[p] and E[p²] are estimated without bias from
    the no-context answers alone: an example that is right in s of its k samples gives s/k and s(s − 1)/(k(k − 1)).
    Several seeds of one arm are pooled. With one answer for each example: 0 for greedy decoding, where identical
    views give identical answers; NaN for sampled decoding, of which one sample says nothing. NaN if none is right.
    """
    answers = generations[generations["view"] == "no_context"]
    right = (answers["outcome"] == "right").groupby([answers["seed"], answers["example_id"]])
    k, s = right.size().to_numpy(dtype=float), right.sum().to_numpy(dtype=float)
    k, s = k[k > 1], s[k > 1]
    if not len(k):
        return 0.0 if greedy else float("nan")
    once, twice = (s / k).sum(), (s * (s - 1) / (k * (k - 1))).sum()
    return float(1 - twice / once) if once > 0 else float("nan")


def comparisons(
    suite: Suite, arm: str = "nca", baseline: str = "opd", control: str = "exact", interval: Kind = "across"
) -> pd.DataFrame:
    """Compute ``arm`` minus ``baseline`` in each setting, over seeds, paired over seeds and examples; a row per metric.

    ``harm_common`` is Harm on the prompts that both solve without the context. Columns ``setting, metric, estimate, low,
    high, n, interval, seeds, excludes_zero`` (the interval's answer; of a setting with one seed the interval is *within*);
    ``p`` of the paired t over seeds, ``p_holm`` adjusted for there being several settings, and ``p_sign_flip``; then what is
    compared: ``arm_estimate``, ``baseline_estimate`` with its interval ``baseline_low, baseline_high, baseline_interval``,
    and for harm ``baseline_floor``. Two trained arms are compared on the seeds that both have; a setting without one of the
    arms, or without a common seed, is left out.
    """

    def rows(study: Study) -> pd.DataFrame:
        answers, split = _answers(study)
        answers = _on_common_seeds(answers, arm, baseline)
        if answers.empty:
            return pd.DataFrame()
        table = _over_seeds(differences(answers, arm, baseline, control, split=split, interval=interval))
        table = table.set_index("metric").loc[[*COMPARED]]
        table["excludes_zero"] = (table["low"] > 0) | (table["high"] < 0)
        values = _over_seeds(metrics(answers, control, split=split, interval=interval)).set_index(
            ["arm", "metric"]
        )
        theirs = values.loc[baseline].reindex(COMPARED)
        of_baseline = answers[answers["arm"] == baseline]
        table = table.assign(
            seeds=answers.loc[answers["arm"] == arm, "seed"].nunique(),
            arm_estimate=values.loc[arm].reindex(COMPARED)["estimate"],
            baseline_estimate=theirs["estimate"],
            baseline_low=theirs["low"],
            baseline_high=theirs["high"],
            baseline_interval=theirs["interval"],
            baseline_floor=np.nan,
        )
        table.loc["harm", "baseline_floor"] = harm_floor(of_baseline, _is_greedy(study))
        return table.reset_index()

    def kept(study: Study) -> pd.DataFrame:
        given = [arm, baseline, control, interval, _is_greedy(study)]
        return stored("comparisons", [study.table_path("generations")], given, lambda: rows(study), study.path)

    table = _stacked(suite, kept, _is_evaluated).reindex(columns=_COMPARISON)
    for _, of_metric in table.groupby("metric"):
        table.loc[of_metric.index, "p_holm"] = holm(of_metric["p"].astype(float))
    return table


def counts(
    suite: Suite, arm: str = "nca", baseline: str = "opd", control: str = "exact", interval: Kind = "across"
) -> pd.DataFrame:
    """Count in how many settings each claim about ``arm`` and ``baseline`` holds; see :func:`count_claims`."""
    return count_claims(comparisons(suite, arm, baseline, control, interval), arm, baseline, interval)


def _answers(study: Study) -> tuple[pd.DataFrame, str]:
    """Return a study's answers on the split that :func:`~cr_interp.tables.metrics.metric_table` takes, at the last step of
    each run.
    """
    answers = study.table("generations")
    split = counted_split(answers)
    return last_step(answers[answers["split"] == split]), split


def _over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over seeds, without the column ``seed``, whose NA would spread when a row is taken out."""
    return table[table["seed"].isna()].drop(columns="seed")


def _is_greedy(study: Study) -> bool:
    return not study.manifest.get("evaluation", {}).get("temperature", 0.0)


def _on_common_seeds(answers: pd.DataFrame, arm: str, baseline: str) -> pd.DataFrame:
    """Return the two arms' answers under the seeds that both have; empty if they cannot be paired.

    ``base`` is not trained: its one seed stands for all, which ``differences`` knows.
    """
    seeds = [set(answers.loc[answers["arm"] == name, "seed"].unique()) for name in (arm, baseline)]
    if not all(seeds):
        return answers.iloc[:0]
    both = answers[answers["arm"].isin([arm, baseline])]
    if "base" in (arm, baseline) and min(map(len, seeds)) == 1:
        return both
    return both[both["seed"].isin(seeds[0] & seeds[1])]


# -- drift ---------------------------------------------------------------------------------------------------


def suite_drift(suite: Suite, measure: str = "cosine", control: str = "exact") -> pd.DataFrame:
    """Return a measure at the blocks' outputs per setting, arm and layer, over seeds.

    Columns ``setting`` and those of :func:`~cr_interp.tables.drift.layer_table`, with ``layer`` a number. Settings without
    the table, or without this measure, are left out.
    """

    def rows(study: Study) -> pd.DataFrame:
        drift = study.table("drift")
        chosen = (drift["site"] == "resid_post") & (drift["measure"] == measure) & (drift["control"] == control)
        if not chosen.any():
            return pd.DataFrame()
        return layer_table(drift[chosen], measure, control).astype({"layer": int})

    columns = ["setting", "arm", "layer", "estimate", "low", "high", "seeds", "n_tokens", "n_examples"]
    return _stacked(suite, rows, lambda study: study.has_table("drift")).reindex(columns=columns)


# -- training ------------------------------------------------------------------------------------------------


def suite_training(suite: Suite) -> pd.DataFrame:
    """List what was evaluated during training, a row per setting, arm, seed and step.

    Columns ``setting, arm, seed, step, acc_x, acc_xc, both_correct, harm, rescue, delta_len, n``. Settings that are
    still being trained are included.
    """

    def rows(study: Study) -> pd.DataFrame:
        log = study.training()
        return log[log["kind"] == "eval"] if "kind" in log else pd.DataFrame()

    return _stacked(suite, rows).reindex(columns=["setting", "arm", "seed", "step", *METRICS, "n"])


def early_gap(
    training: pd.DataFrame,
    names: Sequence[str] = ("acc_x", "acc_xc", "harm"),
    arms: Sequence[str] = ("opd", "nca"),
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return metrics during training, averaged over seeds and then over settings with equal weight.

    ``training`` is :func:`suite_training`. Only settings that have runs of all ``arms``, and only steps that each of those
    runs has reached, so that the curves of all arms are about the same settings at every step. Columns ``arm, step, metric,
    estimate, low, high, lowest, highest, n``: n counts settings (Harm is undefined where an arm is never right without the
    context); ``low, high`` is the 95 % bootstrap interval of the mean over settings, which says how much the mean owes to
    which settings there are (NaN for one setting), and ``lowest, highest`` the range.
    """
    rows = training[training["arm"].isin(arms)]
    has = rows.groupby("setting")["arm"].nunique()
    rows = rows[rows["setting"].isin(has.index[has == len(set(arms))])]
    runs = [set(run["step"]) for _, run in rows.groupby(["setting", "arm", "seed"])]
    steps = sorted(set.intersection(*runs)) if runs else []
    found = []
    for arm in dict.fromkeys(arms):
        for metric in names:
            mine = rows[(rows["arm"] == arm) & rows["step"].isin(steps)].astype({metric: float})
            wide = mine.pivot_table(metric, "step", "setting", dropna=False) if len(mine) else pd.DataFrame()
            for step in steps:
                values = wide.loc[step].dropna().to_numpy(dtype=float)
                found.append({"arm": arm, "step": int(step), "metric": metric} | _mean(values, resamples, seed))
    return pd.DataFrame(found, columns=_EARLY)


def _mean(values: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """Compute the mean of some settings' values, its bootstrap interval (of several) and their range; NaN without any."""
    n = len(values)
    found: dict[str, Any] = dict.fromkeys(("estimate", "low", "high", "lowest", "highest"), np.nan) | {"n": n}
    if n:
        found |= {"estimate": values.mean(), "lowest": values.min(), "highest": values.max()}
    if n > 1:
        low, high = percentiles(bootstrap_weights(n, resamples, seed) @ values / n)
        found |= {"low": float(low), "high": float(high)}
    return found


# -- helpers -------------------------------------------------------------------------------------------------


def _stacked(
    suite: Suite, table: Callable[[Study], pd.DataFrame], has: Callable[[Study], bool] = lambda study: True
) -> pd.DataFrame:
    """Stack the tables of the settings that have one, under each other, with ``setting`` in front."""
    parts = []
    for setting, study in suite.studies.items():
        part = table(study) if has(study) else pd.DataFrame()
        if len(part):
            parts.append(part.assign(setting=setting))
    stacked = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["setting"])
    return stacked[["setting", *(name for name in stacked if name != "setting")]]
