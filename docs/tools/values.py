"""How a number is written in the text: an estimate with its interval, in per cent, in points, or plain."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cr_interp.system.percent import number, percent

#: Between a number and its unit.
NBSP = "\u00a0"


@dataclass(frozen=True)
class Value:
    """An estimate, its 95 % interval (NaN where there is none) with its kind, and the number of things it was counted on."""

    estimate: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    kind: str = ""

    @property
    def exists(self) -> bool:
        return not np.isnan(self.estimate)

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def pct(self) -> str:
        """The value as a share: ``22.1 %``."""
        return f"{percent(self.estimate)}{NBSP}%" if self.exists else "–"

    @property
    def pct_ci(self) -> str:
        return f"{self.pct} {self.ends(percent)}".strip()

    @property
    def points(self) -> str:
        """The value as a difference of shares, with its sign: ``−22.1 points``."""
        return f"{percent(self.estimate, sign=True)} points" if self.exists else "–"

    @property
    def points_ci(self) -> str:
        return f"{self.points} {self.ends(percent)}".strip()

    @property
    def plain(self) -> str:
        return plain(self.estimate)

    @property
    def plain_ci(self) -> str:
        return f"{self.plain} {self.ends(plain)}".strip()

    def ends(self, write: Any) -> str:
        if np.isnan(self.low) or np.isnan(self.high):
            return ""
        return f"[{write(self.low)}, {write(self.high)}]"


def plain(value: float, digits: int = 3) -> str:
    return number(value, digits)


def times(ratio: float) -> str:
    """Write a ratio of two distances, to one digit below ten; nothing finer is meant."""
    return f"{ratio:.1f}"


def listed(items: Iterable[Any], word: str = "and") -> str:
    """Write ``a, b and c``."""
    names = [str(item) for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else "none"


def code(names: Iterable[str]) -> list[str]:
    return [f"`{name}`" for name in names]


def spelt(difference: Value, other: Value) -> str:
    """Write a difference with both of its intervals: ``−22.1 points (within [−29, −16], across [−33, −11])``."""
    return (
        f"{difference.points} ({difference.kind} {difference.ends(percent)}, {other.kind} {other.ends(percent)})"
    )


def value_of(rows: pd.DataFrame, what: str) -> Value:
    if len(rows) != 1:
        raise LookupError(f"{what}: {len(rows)} rows where one was expected")
    row = rows.iloc[0]
    return Value(
        float(row["estimate"]), float(row["low"]), float(row["high"]), int(row["n"]), str(row["interval"])
    )
