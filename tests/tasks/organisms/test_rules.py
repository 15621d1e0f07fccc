import pytest
from hypothesis import given
from hypothesis import strategies as st

from cr_interp.errors import UserError
from cr_interp.tasks import get_task, task_names
from cr_interp.tasks.base import SPLITS, Task
from cr_interp.tasks.organisms.rules import LETTERS, RULES, WORDINGS
from cr_interp.tasks.splits import split_of

strings = st.text(LETTERS, min_size=4, max_size=8)


def test_the_rules_do_what_they_say():
    assert {name: rule("abcdp") for name, rule in RULES.items()} == {
        "copy": "abcdp",
        "shift": "bcdea",
        "mirror": "ponma",
        "reverse": "pdcba",
        "swap": "badcp",
        "rotate": "bcdpa",
        "double": "aabbccddpp",
        "upper": "ABCDP",
    }


@given(strings)
def test_inverses(s):
    for name in ("mirror", "reverse", "swap"):
        assert RULES[name](RULES[name](s)) == s


@pytest.mark.parametrize("rule", RULES)
def test_splits_are_disjoint_and_fixed_by_seed(rule):
    task = get_task(f"rules:{rule}")
    assert isinstance(task, Task)
    seen = {}
    for split in SPLITS:
        examples = task.examples(split, 100, seed=3)
        assert examples == task.examples(split, 100, seed=3)
        assert len({e.prompt for e in examples}) == 100
        assert all(split_of(e.prompt) == split for e in examples)
        seen[split] = {e.prompt for e in examples}
    assert not seen["train"] & seen["test"]


def test_contexts_are_of_equal_length_where_promised():
    contexts = get_task("rules:shift").contexts(lambda c: len(c.messages[0]["content"]))
    lengths = {name: len(c.messages[0]["content"]) for name, c in contexts.items()}
    assert lengths["irrelevant"] == lengths["exact"]
    texts = [c.messages[0]["content"] for c in contexts.values()]
    assert len(set(texts)) == 4
    assert contexts["mismatched"].messages[0]["content"] not in WORDINGS["shift"]


@given(strings, st.text(max_size=12))
def test_grader(s, response):
    task = get_task("rules:swap")
    example = next(e for e in task.examples("test", 1))
    assert task.grade(example, example.answer, False) == "right"
    assert task.grade(example, example.answer, True) == "truncated"
    outcome = task.grade(example, response, False)
    assert outcome == ("right" if response == example.answer else outcome)
    assert outcome in ("right", "wrong", "unparsable")
    assert task.grade(example, response + "?", False) == "unparsable"


def test_unknown_names_are_told_the_list():
    with pytest.raises(UserError, match="Did you mean 'rules:shift'"):
        get_task("rules:shft")
    assert "sentiment" in task_names()
