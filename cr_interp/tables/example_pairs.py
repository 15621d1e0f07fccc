"""Which answers flipped: the two responses to one prompt, without and with the context, and where they differ.

Mental model: a pair falls into one of four cases, right or wrong in each view; the 2×2 table of an arm counts them. It is
the metrics taken apart: BothCorrect is the share of ``kept``, Harm is ``harmed`` of ``kept + harmed``, Rescue is
``rescued`` of ``rescued + both wrong``.

    paired       generations → a row per pair, with both texts and its case
    case_counts  pairs → the four shares of every arm, with intervals
    four_cells   case_counts → a figure: a 2×2 per arm
    differences  two texts → their parts, each marked as common or not
    pair_html    a pair → safe HTML, the texts side by side

Prompts and responses are what a file or a model says: :func:`pair_html` escapes all of it.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cr_interp.errors import UserError, unknown
from cr_interp.figures.cells import add_cells, mark_cell
from cr_interp.figures.style import empty_figure, finish, listed_seeds, safe_text, whole_range
from cr_interp.study.rows import last_step
from cr_interp.tables.answer_sums import with_clusters
from cr_interp.tables.estimates import Kind, Sums, estimates
from cr_interp.tables.interval_words import said_intervals
from cr_interp.tables.matching import agreement, opcodes
from cr_interp.vocabulary import arm_order, by_arm

#: case → (right without, right with, what it is called)
CASES = {
    "kept": (True, True, "right in both"),
    "harmed": (True, False, "right without, wrong with"),
    "rescued": (False, True, "wrong without, right with"),
    "both wrong": (False, False, "wrong in both"),
}
#: Which cases a metric is made of: where its examples are.
CASES_OF = {
    "acc_x": ("kept", "harmed"),
    "acc_xc": ("kept", "rescued"),
    "both_correct": ("kept",),
    "harm": ("harmed",),
    "rescue": ("rescued",),
    "delta_len": tuple(CASES),
}
#: Kinds of error, as ``outcome`` names them.
ERRORS = ("wrong", "unparsable", "truncated")
MARKS = {"right": "✓", "wrong": "✗", "unparsable": "∅", "truncated": "…"}
MARKS_SAY = ", ".join(f"{mark} {outcome}" for outcome, mark in MARKS.items()) + "."
#: Characters of a text that a page shows; the table that can be downloaded has all.
SHOWN = 6000
#: Light enough for dark text at both ends, whatever the page is.
SHARE, INK = [[0.0, "#EEF2F8"], [1.0, "#86ABDD"]], "#1A1A1A"

_KEYS = ["arm", "seed", "split", "example_id", "sample"]


def paired(generations: pd.DataFrame, control: str = "exact", split: str | None = "test") -> pd.DataFrame:
    """A row per pair: ``arm, seed, example_id, sample, prompt, response_x, response_xc, outcome_x, outcome_xc,
    n_tokens_x, n_tokens_xc, case, cluster`` (and ``answer``, if the table has it), arms in their order, examples sorted.

    The same pairs as in :mod:`cr_interp.tables.behaviour`: the last step of a run, an answer without its partner left out.
    """
    if split is not None:
        if split not in set(generations["split"]):
            raise unknown("split", split, map(str, generations["split"].unique()))
        generations = generations[generations["split"] == split]
    rows = last_step(generations)
    rows = with_clusters(rows)
    texts = ["prompt", "cluster", *(["answer"] if "answer" in rows else [])]
    said = ["response", "outcome", "n_tokens"]
    x = rows.loc[rows["view"] == "no_context", [*_KEYS, *texts, *said]]
    xc = rows.loc[(rows["view"] == "with_context") & (rows["control"] == control), [*_KEYS, *said]]
    for side in (x, xc):
        if side.duplicated(_KEYS).any():
            raise UserError(
                "The table 'generations' has answers twice; a pair has one answer in each view. Evaluate again, or "
                "number the answers in the column 'sample'."
            )
    pairs = x.merge(xc, on=_KEYS, suffixes=("_x", "_xc"))
    right = [(pairs[f"outcome_{side}"] == "right").to_numpy(dtype=bool) for side in ("x", "xc")]
    names = {(without, given): case for case, (without, given, _) in CASES.items()}
    pairs["case"] = [names[bool(a), bool(b)] for a, b in zip(*right, strict=True)]
    return by_arm(pairs, "example_id", "seed", "sample")


def case_counts(
    pairs: pd.DataFrame, resamples: int = 2000, seed: int = 0, interval: Kind = "across"
) -> pd.DataFrame:
    """The four cases of every arm, over its seeds: ``arm, case, count, n, share, low, high, seeds, interval``.

    ``n`` are the arm's pairs. Intervals: 95 %, of the kind that ``interval`` names, as for the metrics.
    """
    found = []
    for arm in arm_order(pairs["arm"]):
        mine = pairs[pairs["arm"] == arm]
        row, seeds = pd.factorize(mine["seed"], sort=True)
        column, examples = pd.factorize(mine["example_id"], sort=True)
        hits = np.zeros((len(seeds), len(examples), len(CASES)))
        np.add.at(hits, (row, column, mine["case"].map({c: i for i, c in enumerate(CASES)}).to_numpy()), 1.0)
        asked = np.repeat(hits.sum(axis=2, keepdims=True), len(CASES), axis=2)
        cluster = mine.drop_duplicates("example_id").set_index("example_id")["cluster"]
        clusters = cluster.loc[examples].tolist()
        row_over = estimates([Sums(hits, asked, clusters)], [True] * len(CASES), interval, resamples, seed)[-1]
        counts = hits.sum(axis=(0, 1))
        for index, case in enumerate(CASES):
            found.append(
                {
                    "arm": arm, "case": case, "count": int(counts[index]), "n": len(mine),
                    "share": row_over.estimate[index], "low": row_over.low[index], "high": row_over.high[index],
                    "seeds": len(seeds), "interval": row_over.kinds[index],
                }
            )  # fmt: skip
    return pd.DataFrame(found, columns=["arm", "case", "count", "n", "share", "low", "high", "seeds", "interval"])


def choose(pairs: pd.DataFrame, arm: str, cases: Sequence[str], errors: Sequence[str] = ()) -> pd.DataFrame:
    """The pairs of one arm and some cases; with ``errors`` those with one of these outcomes in either view."""
    keep = (pairs["arm"] == arm) & pairs["case"].isin(list(cases))
    if errors:
        keep &= pairs["outcome_x"].isin(list(errors)) | pairs["outcome_xc"].isin(list(errors))
    return pairs[keep]


def four_cells(
    counts: pd.DataFrame,
    control: str = "exact",
    chosen: tuple[str, Sequence[str]] | None = None,
    seeds: pd.Series | None = None,
) -> go.Figure:
    """A 2×2 per arm: right or wrong without the context (down) and with it (across), shares of its pairs.

    ``counts`` is :func:`case_counts`; ``chosen`` = (arm, cases) gets a frame, unless it is all of them; ``seeds`` are
    named in the caption. A cell can be clicked: its x and y are 0 for right and 1 for wrong, with and without the
    context; see :func:`case_at`.
    """
    if counts.empty:
        return empty_figure(f"No pairs of responses without and with the {safe_text(control)} context.")
    arms = arm_order(counts["arm"])
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure = make_subplots(
        rows, columns, horizontal_spacing=0.03, vertical_spacing=0.3 / rows if rows > 1 else 0, shared_yaxes=True,
        subplot_titles=[f"<b>{safe_text(arm)}</b>" for arm in arms],
    )  # fmt: skip
    cell = {(row.arm, row.case): row for row in counts.itertuples()}
    for index, arm in enumerate(arms):
        where: dict[str, Any] = {"row": index // columns + 1, "col": index % columns + 1}
        at = {(y, x): cell[arm, case_at(x, y)] for y in (0, 1) for x in (0, 1)}
        z = np.array([[at[y, x].share for x in (0, 1)] for y in (0, 1)], dtype=float)

        def values(i: int, j: int, at: dict[Any, Any] = at) -> list[str]:
            row = at[i, j]
            ends = f"[{row.low:.1%}, {row.high:.1%}]"
            return [CASES[case_at(j, i)][2], f"{row.count} of {row.n}", f"{row.share:.1%}", ends]

        def text(i: int, j: int, at: dict[Any, Any] = at) -> str:
            return f"<b>{at[i, j].count}</b><br>{100 * at[i, j].share:.1f} %"

        template = (
            f"<b>{safe_text(arm)}</b>, %{{customdata[0]}}<br>%{{customdata[1]}} pairs, %{{customdata[2]}} "
            "%{customdata[3]}"
        )
        add_cells(figure, z, [0, 1], [0, 1], values, template, arm, text=text, **where)
        if chosen is not None and chosen[0] == arm and len(chosen[1]) < len(CASES):
            for case in chosen[1]:
                without, given, _ = CASES[case]
                mark_cell(figure, int(not given), int(not without), **where)
        figure.update_xaxes(title="with context" if index + columns >= len(arms) else None, **where)
        figure.update_yaxes(title="without" if index % columns == 0 else None, **where)
    words = {
        "tickvals": [0, 1],
        "ticktext": ["right", "wrong"],
        "showgrid": False,
        "zeroline": False,
        "ticks": "",
    }
    figure.update_traces(textfont={"color": INK, "size": 14}, selector={"mode": "markers+text"})
    figure.update_layout(coloraxis={"colorscale": SHARE, "cmin": 0, "cmax": 1, "showscale": False})
    several = counts["seeds"].max() > 1
    over = f"over {listed_seeds(seeds) if seeds is not None else str(whole_range(counts['seeds'])) + ' seeds'}"
    text_below = (
        f"Pairs of responses to the same prompt, without (down) and with the context ({control}, across)"
        f"{', ' + over if several else ''}: how many and their share. n = {whole_range(counts['n'])} pairs an arm. The "
        f"pointer shows 95 % intervals: {said_intervals(counts)}."
    )
    alt = "Right and wrong without and with the context. " + " ".join(
        f"{arm}: " + ", ".join(f"{CASES[case][2]} {cell[arm, case].count}" for case in CASES) + "."
        for arm in arms
    )
    figure = finish(figure, text_below, alt, height=52 + rows * 188, top=34)
    figure.update_xaxes(range=[-0.5, 1.5], **words)
    return figure.update_yaxes(range=[1.5, -0.5], ticklabelstandoff=4, **words)


def case_at(x: float, y: float) -> str:
    """The case of a cell of :func:`four_cells`.

    >>> case_at(1, 0)
    'harmed'
    """
    return next(
        case for case, (without, given, _) in CASES.items() if (without, given) == (round(y) == 0, round(x) == 0)
    )


# -- text ----------------------------------------------------------------------------------------------------

#: A part of a text and whether the other text has it too.
Part = tuple[str, bool]


def differences(one: str, other: str) -> tuple[list[Part], list[Part]]:
    """Both texts cut into parts ``(text, common)``; joined they give the texts back.

    Words are compared, or letters if neither text has a space: the answer ``abdc`` for ``abcd`` differs in two letters.
    Single words that share no more than half of their letters (positive, negative) are different as a whole.

    >>> differences("it is good", "it is bad")
    ([('it is ', True), ('good', False)], [('it is ', True), ('bad', False)])
    """
    letters = not re.search(r"\s", one.strip()) and not re.search(r"\s", other.strip())
    a, b = (list(text) if letters else re.findall(r"\w+|\s+|[^\w\s]", text) for text in (one, other))
    steps = opcodes(a, b)
    if letters and agreement(steps, len(a), len(b)) <= 0.5:
        steps = [("replace", 0, len(a), 0, len(b))]
    left = [(a[i:j], kind == "equal") for kind, i, j, _, _ in steps]
    right = [(b[k:m], kind == "equal") for kind, _, _, k, m in steps]
    return _joined(left), _joined(right)


def _joined(parts: Sequence[tuple[list[str], bool]]) -> list[Part]:
    """Without empty parts, neighbours of one kind together."""
    found: list[Part] = []
    for words, common in parts:
        text = "".join(words)
        if text and found and found[-1][1] == common:
            found[-1] = (found[-1][0] + text, common)
        elif text:
            found.append((text, common))
    return found


STYLE = """<style>
.ct-pair { display: flex; flex-wrap: wrap; gap: 0.5rem; font-size: 0.92rem; line-height: 1.5; }
.ct-pair > div { padding: 0.35rem 0.6rem; min-width: 0; box-sizing: border-box; }
.ct-pair .ct-x, .ct-pair .ct-xc { border: 1px solid rgba(128,128,128,0.3); border-radius: 6px; flex: 1 1 17rem; }
.ct-pair .ct-asked { flex: 0 1 9rem; padding-left: 0.1rem; }
.ct-pair .ct-asked.ct-long { flex: 1 1 100%; padding-bottom: 0; }
.ct-pair b { font-weight: 600; }
.ct-pair small { opacity: 0.75; }
.ct-pair pre { font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.86rem; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 15rem; overflow: auto; margin: 0.2rem 0 0 0; padding: 0; background: none; border: 0;
  color: inherit; unicode-bidi: plaintext; }
.ct-pair mark { color: inherit; border-radius: 2px; padding: 0 1px; }
.ct-pair .ct-x mark { background: rgba(86,126,178,0.30); text-decoration: underline dotted; }
.ct-pair .ct-xc mark { background: rgba(214,60,130,0.28); text-decoration: underline; }
</style>"""


def pair_html(pair: Any) -> str:
    """A row of :func:`paired` (as of ``itertuples``) as HTML: the prompt, and both responses side by side, what only one
    of them has marked. Everything is escaped; a text of more than :data:`SHOWN` characters is cut."""
    asked = {"prompt": _cut(pair.prompt)}
    answer = getattr(pair, "answer", None)
    if isinstance(answer, str) and answer:
        asked["expected"] = _cut(answer)
    long = any(len(text) > 24 or "\n" in text for text in asked.values())
    boxes = [
        f"<div class='ct-asked{' ct-long' * long}'><small>{name}</small><pre>{escape(text)}</pre></div>"
        for name, text in asked.items()
    ]
    notes = [
        f"{MARKS.get(outcome, '?')} {outcome}, {count} tokens"
        for outcome, count in ((pair.outcome_x, pair.n_tokens_x), (pair.outcome_xc, pair.n_tokens_xc))
    ]
    return _boxes(boxes + _responses((pair.response_x, pair.response_xc), notes))


def responses_html(texts: tuple[object, object], notes: Sequence[str]) -> str:
    """Two responses, without and with the context, side by side as in :func:`pair_html`; a note stands above each."""
    return _boxes(_responses(texts, notes))


def _boxes(boxes: Sequence[str]) -> str:
    return f"{STYLE}<div class='ct-pair'>{''.join(boxes)}</div>"


def _responses(texts: tuple[object, object], notes: Sequence[str]) -> list[str]:
    parts = differences(*map(_cut, texts))
    return [
        f"<div class='{name}'><b>{title}</b> <small>{escape(note)}</small><pre>{_marked(each)}</pre></div>"
        for name, title, note, each in zip(
            ("ct-x", "ct-xc"), ("without", "with context"), notes, parts, strict=True
        )
    ]


def _marked(parts: Sequence[Part]) -> str:
    if not parts:
        return "<small>(empty)</small>"
    return "".join(escape(text) if common else f"<mark>{escape(text)}</mark>" for text, common in parts)


def _cut(text: object) -> str:
    text = str(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({len(text) - SHOWN} more characters)"
