"""Every number of a study's states that a page may cite: drift beside its controls."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import pandas as pd
from of_study import ARMS, study
from values import NBSP, listed, plain

from cr_interp.tables.controls import control_table, worst
from cr_interp.vocabulary import CONTROLS, REFERENCES


@cache
def controls(name: str, of: str) -> pd.DataFrame:
    return control_table(study(name).table("drift"), of)


def state(name: str, arm: str, of: str, layer: int | str, control: str = "exact") -> float:
    """Return a measure at a layer (a number, ``last``, or ``worst``: the arm's worst relative to its floor)."""
    table = controls(name, of)
    number = table["layer"].max() if layer == "last" else layer
    table = worst(table) if layer == "worst" else table[table["layer"] == number]
    found = table.loc[table["arm"] == arm, control]
    if len(found) != 1:
        raise LookupError(f"{name} has {len(found)} values of {of} at layer {layer} for {arm} under {control}")
    return float(found.iloc[0])


def extreme(name: str, arm: str, of: str, which: str) -> float:
    """Return the lowest or highest value of a measure over the blocks, under the exact context."""
    table = controls(name, of)
    values = table.loc[(table["arm"] == arm) & (table["layer"] >= 0), "exact"]
    return float(values.min() if which == "lowest" else values.max())


def layers_where(name: str, arm: str, other: str, of: str) -> tuple[int, int]:
    """Count in how many blocks, of how many, an arm's views are more alike than another's."""
    table = controls(name, of)
    wide = table[table["layer"] >= 0].pivot(index="layer", columns="arm", values="exact")
    return int((wide[arm] > wide[other]).sum()), len(wide)


def controls_markdown(names: Sequence[str], of: str) -> str:
    """Return each arm's worst layer relative to its floor, of several studies."""
    head = (*CONTROLS, *REFERENCES, "relative")
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
    """Return the same of base, opd and nca, in words."""
    return listed(f"{relative(name, arm, of):.2f} ({arm})" for arm in ARMS)


def squares(name: str, of: str) -> str:
    """Return the ratio of 1 − similarity without the root: what must not be read as "times as far"."""
    return listed(f"{relative(name, arm, of) ** 2:.1f} ({arm})" for arm in ARMS)


def in_order(name: str, of: str, descending: bool = True) -> bool:
    """Tell whether base moves most, then opd, then nca (relative to the floor), or the reverse."""
    values = [relative(name, arm, of) for arm in ARMS]
    return values == sorted(values, reverse=descending)


def span(name: str, arm: str, of: str, first: int, last: int) -> str:
    """Return the range of a share over some layers: ``51–62 %``."""
    table = controls(name, of)
    values = table.loc[(table["arm"] == arm) & table["layer"].between(first, last), "exact"]
    return f"{100 * values.min():.0f}–{100 * values.max():.0f}{NBSP}%"


def worked_example(name: str, rows: Iterable[tuple[str, int]]) -> str:
    """Return some measures at some layers under every control, for base, opd and nca."""
    head = ("exact", "floor", "relative", "irrelevant", "mismatched", "repeat")
    lines = [f"| measure | layer | arm | {' | '.join(head)} |", "|---|---:|---|" + "---:|" * len(head)]
    for of, layer in rows:
        for arm in ARMS:
            cells = " | ".join(plain(state(name, arm, of, layer, control)) for control in head)
            lines.append(f"| `{of}` | {layer} | `{arm}` | {cells} |")
    return "\n".join(lines)
