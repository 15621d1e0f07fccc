"""One prompt with all arms' answers to it: arms down, without and with the context across, seeds as chips.

Mental model: runs of one arm often answer alike, so equal pairs of answers stand once, with a chip for every seed that gave
them. What only one of the two views says is marked, as in ``pair_html.py``. Everything is escaped.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from cr_interp.figures.pair_html import cut, differences, marked, marks_style
from cr_interp.figures.style import arm_colour
from cr_interp.tables.example_pairs import MARKS
from cr_interp.vocabulary import arm_order

STYLE = (
    """<style>
.ct-prompt { font-size: 0.92rem; line-height: 1.5; overflow-x: auto; }
.ct-prompt .ct-asked { margin-bottom: 0.3rem; }
.ct-prompt table { border-collapse: collapse; width: 100%; min-width: 30rem; margin: 0; border: 0; }
.ct-prompt th, .ct-prompt td { border: 0; border-top: 1px solid rgba(128,128,128,0.28); padding: 0.25rem 0.5rem;
  vertical-align: top; text-align: left; }
.ct-prompt thead th { border-top: 0; font-weight: 600; }
.ct-prompt tbody th { font-weight: 600; border-left: 4px solid; width: 7rem; overflow-wrap: anywhere; }
.ct-prompt td { width: 45%; }
.ct-prompt pre { font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.86rem; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 15rem; overflow: auto; margin: 0; padding: 0; background: none; border: 0; color: inherit;
  unicode-bidi: plaintext; }
.ct-prompt i { font-style: normal; border: 1px solid rgba(128,128,128,0.6); border-radius: 0.8rem; padding: 0 0.4rem;
  display: inline-block; white-space: nowrap; margin-right: 0.25rem; font-size: 0.78rem; }
@media (max-width: 640px) { .ct-prompt table { min-width: 0; table-layout: fixed; } .ct-prompt tbody th { width: auto; }
  .ct-prompt thead th:first-child { width: 3.6rem; } .ct-prompt th, .ct-prompt td { padding: 0.25rem 0.3rem; }
  .ct-prompt td { width: auto; } }
"""
    + f"{marks_style('ct-prompt')}\n</style>"
)


def prompt_html(pairs: pd.DataFrame, arms: Sequence[str] | None = None) -> str:
    """Write all rows of :func:`cr_interp.tables.example_pairs.paired` of one example as a table; ``arms``: all, for stable
    colours.
    """
    first = pairs.iloc[0]
    asked = f"<div class='ct-asked'><pre>{escape(cut(first['prompt']))}</pre>"
    answer = first.get("answer")
    if isinstance(answer, str) and answer:
        asked += f"expected: <b>{escape(cut(answer))}</b>"
    head = "<thead><tr><th scope='col'>arm</th><th scope='col'>without</th><th scope='col'>with context</th></tr></thead>"
    body = "".join(
        _arm_html(pairs[pairs["arm"] == arm], str(arm), arms or arm_order(pairs["arm"]))
        for arm in arm_order(pairs["arm"])
    )
    return (
        f"{STYLE}<div class='ct-pair ct-prompt' tabindex='0' role='region' "
        f"aria-label='answers to {escape(str(first['example_id']), quote=True)}'>{asked}</div>"
        f"<table>{head}<tbody>{body}</tbody></table></div>"
    )


def _arm_html(mine: pd.DataFrame, arm: str, arms: Sequence[str]) -> str:
    same = ["response_x", "response_xc", "outcome_x", "outcome_xc"]
    groups = list(mine.groupby(same, sort=False, dropna=False))
    colour = arm_colour(arm, arms)
    rows = []
    for number, (_, group) in enumerate(groups):
        pair = group.iloc[0]
        name = (
            f"<th scope='rowgroup' rowspan='{len(groups)}' style='border-left-color:{colour}'>{escape(arm)}</th>"
            if number == 0
            else ""
        )
        left, right = differences(cut(pair["response_x"]), cut(pair["response_xc"]))
        chips = _chips(group)
        rows.append(
            f"<tr>{name}<td class='ct-x'>{chips}{_note(pair['outcome_x'], pair['n_tokens_x'])}<pre>{marked(left)}</pre></td>"
            f"<td class='ct-xc'>{_note(pair['outcome_xc'], pair['n_tokens_xc'])}<pre>{marked(right)}</pre></td></tr>"
        )
    return "".join(rows)


def _chips(group: pd.DataFrame) -> str:
    """Write a chip for every seed, with the sample's number where an answer was drawn several times."""
    sampled = group["sample"].max() > 0
    names = [f"seed {row.seed}" + (f".{row.sample}" if sampled else "") for row in group.itertuples()]
    return "".join(f"<i>{escape(name)}</i>" for name in dict.fromkeys(names))


def _note(outcome: Any, tokens: Any) -> str:
    return f"<small>{MARKS.get(outcome, '?')} {escape(str(outcome))}, {int(tokens)} tokens</small>"
