"""What has been screened of the second suite, as far as its files stand beside the preregistration: what templates call ``s``.

Mental model. The files hold curves and outcomes; which rate is taken and what is eligible follows from them by the rules that the
preregistration names, so the page says what the runner would say.
"""

from functools import cache

import pandas as pd
from values import listed, percent

from training.studies.preregistration import Preregistration, load_preregistration
from training.studies.screened import read_screened
from training.studies.screening import judged

NAME = "suite-2"
CONDITIONS = {
    "internalised": "not internalised",
    "harmed": "not harmed enough",
    "of_the_context": "harmed behind any context",
}


@cache
def plan() -> Preregistration:
    return load_preregistration(NAME)


@cache
def found() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the grid, a row per setting and rate, and what the rules say of each setting, both in the hash's order."""
    chosen, order = plan(), sorted(plan().settings(), key=plan().order)
    read = [each for name in order if (each := read_screened(chosen, None, name))]
    if not read:
        return pd.DataFrame(columns=["setting"]), pd.DataFrame(columns=["setting", "eligible", "harmed"])
    curves, outcomes = (pd.concat(each, ignore_index=True) for each in zip(*read, strict=True))
    grid, rows = judged(curves, outcomes, chosen)
    in_order = {"key": lambda names: names.map(order.index), "kind": "stable", "ignore_index": True}
    return grid.sort_values("setting", **in_order), rows.sort_values("setting", **in_order)


def count() -> str:
    """Say how many candidates have been screened, and how many of those are eligible."""
    judged = found()[1]
    eligible = judged.loc[judged["eligible"].astype(bool), "setting"].tolist()
    told = f"{len(judged)} of {len(plan().settings())} candidates have been screened"
    return (
        f"{told}; eligible: {listed(f'`{name}`' for name in eligible)}"
        if eligible
        else f"{told}; none is eligible"
    )


def settings_markdown() -> str:
    """Write a row per screened setting: at the chosen rate, and why it is not eligible."""
    lines = [
        "| setting | rate | steps | Acc_x | teacher | Harm | behind the irrelevant context | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found()[1].itertuples():
        # Who is not harmed is not harmed for the context's sake either, which says nothing.
        asked = [name for name in CONDITIONS if row.harmed or name != "of_the_context"]
        missing = [CONDITIONS[name] for name in asked if not getattr(row, name)]
        cells = [f"`{row.setting}`", f"{row.rate:g}", row.train_steps, f"{row.acc_x:.2f}", f"{row.teacher:.2f}"]
        cells += [_percent(row.harm), _percent(row.harm_irrelevant), ", ".join(missing) or "**eligible**"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def grid_markdown() -> str:
    """Write the grid: a row per setting, with Acc_x and the steps of the plateau at each rate."""
    lines = ["| setting | Acc_x at the plateau, by rate (steps to it) |", "|---|---|"]
    for setting, rows in found()[0].groupby("setting", sort=False):
        cells = [
            f"{row.rate:g}: {row.acc_x:.2f} ({'' if row.reached else 'none by '}{row.steps})"
            for row in rows.itertuples()
        ]
        lines.append(f"| `{setting}` | {'; '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if share != share else f"{percent(share)} %"
