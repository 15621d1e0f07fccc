"""Which answers are looked at, and where they part: counted by hand."""

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.mechanism.answers import answers_of, chosen_answers, parting


def row(example, view, ids, outcome, **more):
    control = "exact" if view == "with_context" else "none"
    return {
        "arm": "opd",
        "seed": 0,
        "step": 1,
        "example_id": example,
        "view": view,
        "control": control,
        "sample": 0,
        "prompt": f"ask {example}",
        "response_ids": ids,
        "outcome": outcome,
        **more,
    }


def table(*pairs, **more):
    rows = []
    for example, (x, right_x), (xc, right_xc) in pairs:
        rows.append(row(example, "no_context", x, right_x, **more))
        rows.append(row(example, "with_context", xc, right_xc, **more))
    return pd.DataFrame(rows)


def test_groups_and_the_place_where_answers_part():
    found = answers_of(
        table(
            ("a", ([5, 6, 1], "right"), ([5, 7, 1], "wrong")),
            ("b", ([5, 1], "truncated"), ([6, 1], "right")),
            ("c", ([5, 1], "right"), ([5, 1], "right")),
            ("d", ([5, 1], "wrong"), ([5, 8], "unparsable")),
            ("e", ([5, 1], "wrong"), ([5, 1], "wrong")),  # nothing changed, and nothing to keep
            ("f", ([5, 6], "right"), ([5, 6, 7], "wrong")),  # one is the beginning of the other
        )
    )
    assert [(each.example_id, each.group, each.place) for each in found] == [
        ("a", "harmed", 1),
        ("b", "rescued", 0),
        ("c", "kept", None),
        ("d", "changed", 1),
    ]
    assert found[0].prompt == "ask a"
    assert found[0].without == (5, 6, 1)
    assert found[0].given == (5, 7, 1)
    assert found[0].cluster == "a"


def test_clusters_other_controls_and_samples():
    rows = table(("a", ([5], "right"), ([6], "wrong")), cluster="phrase-3")
    other = rows[rows["view"] == "with_context"].assign(control="irrelevant")
    second = rows.assign(sample=1)
    found = answers_of(pd.concat([rows, other, second]))
    assert [each.cluster for each in found] == ["phrase-3"]


def test_of_an_episode_the_turn_where_the_answers_part():
    rows = table(("a", ([5, 1, 6, 7, 1], "right"), ([5, 1, 6, 8, 1, 9, 1], "wrong")))
    rows["turn_prompts"] = [["first", "second"], ["first", "second", "third"]]
    rows["turn_tokens"] = [[2, 3], [2, 3, 2]]
    (found,) = answers_of(rows)
    assert (found.prompt, found.without, found.given, found.place) == ("second", (6, 7, 1), (6, 8, 1), 1)


def test_a_draw_of_each_group_is_the_same_every_time():
    pairs = [(f"e{i:02d}", ([i + 10, 1], "right"), ([9, 1], "wrong")) for i in range(20)]
    pairs += [(f"k{i:02d}", ([5, 1], "right"), ([5, 1], "right")) for i in range(3)]
    found = answers_of(table(*pairs))
    chosen = chosen_answers(found, ["harmed", "kept"], 5)
    assert [each.group for each in chosen] == ["harmed"] * 5 + ["kept"] * 3
    assert chosen == chosen_answers(list(reversed(found)), ["harmed", "kept"], 5)
    assert [each.example_id for each in chosen[:5]] != [f"e{i:02d}" for i in range(5)]  # not the first ones


def test_parting():
    assert parting([1, 2], [1, 2]) is None
    assert parting([1], [2]) == 0


def test_a_table_without_ids_is_refused():
    with pytest.raises(UserError, match="no column response_ids"):
        answers_of(table(("a", ([5], "right"), ([6], "wrong"))).drop(columns="response_ids"))
