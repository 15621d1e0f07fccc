"""Hints: what each example's context tells is true of its own number, and of no more than that."""

import pytest

from cr_interp.errors import UserError
from cr_interp.measure.evaluate import evaluate
from cr_interp.models.loading import load
from cr_interp.tasks import get_task
from cr_interp.tasks.base import before
from cr_interp.tasks.organisms.codebook import CODEBOOKS, DIGITS, apply_table
from cr_interp.tasks.organisms.hints import hints_task
from cr_interp.views import EachOwn

TASK = get_task("hints:A")


def count(context):
    return sum(len(message["content"]) for message in context.messages)


def read(context) -> dict[str, str]:
    """The table that a context tells, in either wording."""
    return {pair[0]: pair[2] for pair in context.messages[0]["content"].split()}


def test_a_hint_is_true_where_it_is_needed():
    differing = 0
    for example in TASK.examples("test", 40):
        table = read(example.context)
        assert list(table) == list(DIGITS)
        assert len(set(table.values())) == len(DIGITS)
        assert apply_table(table, example.prompt) == example.answer == apply_table(CODEBOOKS["A"], example.prompt)
        assert read(example.paraphrase) == table
        differing += (
            table != CODEBOOKS["A"] or len(set(example.prompt)) > 6
        )  # that needs (nearly) the whole table
    assert differing == 40


def test_contexts_are_each_example_s_own():
    contexts = TASK.contexts(count)
    assert set(contexts) == {"exact", "paraphrase", "mismatched", "irrelevant"}
    assert all(isinstance(each, EachOwn) for each in contexts.values())
    examples = TASK.examples("test", 20)
    for example in examples:
        given = {name: before(example, each) for name, each in contexts.items()}
        assert given["exact"] == example.context
        assert given["paraphrase"] == example.paraphrase
        other = apply_table(read(given["mismatched"]), example.prompt)
        assert other != example.answer
        assert TASK.obeys(example, other)
        assert not TASK.obeys(example, example.answer)
        assert count(given["irrelevant"]) == count(given["exact"])
    assert len({str(before(each, contexts["exact"])) for each in examples}) == 20
    assert before(examples[0], None) is None


def test_a_codebook_that_does_not_exist():
    with pytest.raises(UserError, match="codebook 'Z'"):
        hints_task("Z")


@pytest.mark.slow
def test_an_organism_follows_a_hint():
    """What the module's text says: the bundled one reads the answer from a whole table, of which only some rows are true."""
    rows = evaluate(load("builtin:organism-llama"), TASK, TASK.examples("test", 24), TASK.contexts(count))
    right = (rows["outcome"] == "right").groupby(rows["control"]).mean()
    assert right["exact"] > 0.9
    assert right["none"] < 0.3
    assert right["mismatched"] < 0.3
