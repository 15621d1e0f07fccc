"""Which tokens drift: how far each token's state moves, examples by their drift, and the arms' responses aligned.

Mental model: a row of ``token_drift`` is a token at a site: the state that *predicts* this token, read without and with
the context. Its movement is 1 − cosine or relative L2 at a layer, or the KL divergence of the two next-token
distributions at the output (:data:`MOVES`); all three are 0 where nothing moves, so one scale of colour serves them.
Checkpoints answer differently, so :func:`align` gives the arms' responses common columns.

    moved    adds the movement of a measure to rows of token_drift
    rank     token_drift at one layer → examples, those that move most first
    Reading  the rows of one response → tokens and movements
    align    token lists → columns

What is drawn from it: text in ``figures/token_html.py``, token × layer strips in ``figures/token_strips.py``.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from cr_interp.tables.matching import agreement, opcodes
from cr_interp.vocabulary import OUTPUT, places_of

#: measure → (name, what is coloured)
MOVES = {
    "cosine": ("cosine", "1 − cosine"),
    "relative_l2": ("relative L2", "relative L2"),
    "kl": ("output KL", "KL(without ‖ with), nats"),
}
#: How an example is ordered: by its farthest token or by all of them.
STATISTICS = {"max": "farthest token", "mean": "mean of tokens"}
#: Columns that are drawn at once; a longer response is read in windows.
WINDOW = 120
#: Where the logarithmic colour scale of the output's KL begins, in nats.
LEAST_KL = 1e-3


def place(rows: pd.DataFrame) -> pd.Series:
    """Tell where a row of ``token_drift`` belongs: −1 the embedding, 0 … the blocks, :data:`OUTPUT` the output."""
    return places_of(rows).where(rows["site"] != "output", OUTPUT)


def moved(rows: pd.DataFrame, measure: str) -> Float[ndarray, " row"]:
    """Measure how far each row's state moves by ``measure``; NaN where it has none. Never below 0 (float noise is cut)."""
    values = rows[measure].to_numpy(dtype=float)
    return np.maximum(1 - values if measure == "cosine" else values, 0.0)


def scale_end(values: Float[ndarray, " token"]) -> float:
    """Choose where the colour scale ends: the movement that 99 % of all tokens stay below, so that one outlier does not
    turn all others pale."""
    values = values[np.isfinite(values)]
    return max(float(np.quantile(values, 0.99)), 1e-6) if len(values) else 1.0


def share(drift: Float[ndarray, "*any"], measure: str, end: float) -> Float[ndarray, "*any"]:
    """Place a movement on the colour scale, 0 to 1: linear, but logarithmic for the output's KL, which spans
    decades; NaN stays NaN."""
    if measure == "kl":
        low, high = np.log10(LEAST_KL), np.log10(max(end, 10 * LEAST_KL))
        with np.errstate(divide="ignore"):
            return np.clip((np.log10(drift) - low) / (high - low), 0.0, 1.0)
    return np.clip(drift / end, 0.0, 1.0)


def scale_ticks(measure: str, end: float) -> dict[float, str]:
    """Return ticks of the colour scale: share → the movement there."""
    if measure == "kl":
        high = max(end, 10 * LEAST_KL)
        decades = range(round(np.log10(LEAST_KL)), int(np.floor(np.log10(high))) + 1)
        ticks = {float(share(np.array([10.0**d]), measure, end)[0]): f"{10.0**d:g}" for d in decades}
        return {at: f"≤ {label}" if at == 0 else label for at, label in ticks.items()}
    return {at: f"{at * end:.2g}" for at in (0.0, 0.25, 0.5, 0.75)} | {1.0: f"≥ {end:.2g}"}


def rank(rows: pd.DataFrame, measure: str, statistic: str = "max") -> pd.DataFrame:
    """Rank examples by drift, the farthest first: ``example_id, drift, tokens, position, token``.

    ``rows`` are one arm's, seed's and layer's. ``position`` and ``token`` are of the token that moves most.
    """
    rows = rows.assign(drift=moved(rows, measure)).dropna(subset="drift").reset_index(drop=True)
    grouped = rows.groupby("example_id", sort=True)["drift"]
    far = rows.loc[grouped.idxmax()].set_index("example_id")
    table = pd.DataFrame(
        {
            "drift": grouped.max() if statistic == "max" else grouped.mean(),
            "tokens": grouped.size(),
            "position": far["position"],
            "token": far["token"],
        }
    )
    return table.sort_values("drift", ascending=False, kind="stable").rename_axis("example_id").reset_index()


# -- alignment -----------------------------------------------------------------------------------------------


def align(sequences: Sequence[Sequence[str]], similar: float = 0.75) -> list[list[int | None]]:
    """Align several token lists in common columns: per list, the position that stands in each column, or None for a gap.

    Each list is matched against the columns so far. What is equal shares a column; what differs is set side by side position
    by position. Lists of which less than ``similar`` is equal are aligned by position alone: chance matches of unrelated
    texts would only tear them apart.

    >>> align([["a", "b", "c"], ["a", "c"]])
    [[0, 1, 2], [0, None, 1]]
    """
    columns: list[list[int | None]] = []
    said: list[str] = []  # what stands in a column: the first list that has a token there
    for done, tokens in enumerate(sequences):
        steps = opcodes(said, tokens)
        if done and agreement(steps, len(said), len(tokens)) < similar:
            steps = [("replace", 0, len(said), 0, len(tokens))]
        merged: list[list[int | None]] = []
        words: list[str] = []
        for _, a, b, c, d in steps:
            for k in range(max(b - a, d - c)):
                old = columns[a + k] if a + k < b else [None] * done
                merged.append([*old, c + k if c + k < d else None])
                words.append(said[a + k] if a + k < b else tokens[c + k])
        columns, said = merged, words
    return [[column[index] for column in columns] for index in range(len(sequences))]


@dataclass(frozen=True)
class Reading:
    """One arm's response: its tokens and how far each moves at each place, ``drift[place, token]``."""

    arm: str
    tokens: list[str]
    places: list[int]
    drift: Float[ndarray, "place token"]
    #: measure → its values as they are in the table, at the same places and tokens; for the tooltips
    values: dict[str, Float[ndarray, "place token"]] = field(default_factory=dict)

    @staticmethod
    def of(arm: str, rows: pd.DataFrame, measure: str) -> "Reading":
        """Read the rows of one arm, seed and example at all sites."""
        rows = rows.assign(place=place(rows), drift=moved(rows, measure))
        rows = rows.drop_duplicates(["place", "position"])
        positions = sorted(set(rows["position"]))
        wanted = rows[rows["place"] == OUTPUT] if measure == "kl" else rows[rows["place"] != OUTPUT]
        places = sorted(set(wanted["place"]))
        tokens = rows.drop_duplicates("position").set_index("position")["token"]

        def grid(name: str) -> ndarray:
            table = wanted.pivot(index="place", columns="position", values=name)
            return table.reindex(places, columns=positions).to_numpy(dtype=float)

        # The table holds the movement's own measure at every site; the output's KL goes along with each of them.
        values = {name: grid(name) for name in MOVES if name != "kl"} if measure != "kl" else {}
        output = (
            rows[rows["place"] == OUTPUT].set_index("position")["kl"].reindex(positions).to_numpy(dtype=float)
        )
        values["kl"] = np.tile(output, (len(places), 1))
        return Reading(arm, [str(tokens[each]) for each in positions], places, grid("drift"), values)

    def at(self, layer: int) -> Float[ndarray, " token"]:
        """Return the movement at a layer; NaN if the response was not read there. With the KL there is only the output."""
        if self.places == [OUTPUT]:
            return self.drift[0]
        nowhere = np.full(len(self.tokens), np.nan)
        return self.drift[self.places.index(layer)] if layer in self.places else nowhere


def farthest(readings: Sequence[Reading]) -> float:
    """Return the largest movement in these responses: an end of the colour scale for them alone."""
    found = [float(np.nanmax(each.drift)) for each in readings if np.isfinite(each.drift).any()]
    return max([*found, 1e-6])


def visible(text: str) -> str:
    """Write a token so that it can be seen: white space and control characters get a sign, so that none is invisible or turns
    the direction of what follows.

    >>> visible(" a\\n")
    '·a⏎'
    """
    if not text:
        return "∅"
    signs = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥"}
    return "".join(
        signs.get(each)
        or (f"‹{ord(each):04X}›" if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") else each)
        for each in text
    )
