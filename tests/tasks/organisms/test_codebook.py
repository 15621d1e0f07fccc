import pytest
from hypothesis import given
from hypothesis import strategies as st

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.base import SPLITS, GivesNewInstruction, Task
from cr_interp.tasks.organisms.codebook import CODEBOOKS, DIGITS, LENGTHS, LETTERS
from cr_interp.tasks.organisms.pairs import WORDINGS
from cr_interp.tasks.splits import split_of

TASK = get_task("codebook:A")


def count_characters(context):
    return sum(len(message["content"]) for message in context.messages)


def test_the_example_of_the_module_text():
    table = list(zip(DIGITS, "kcpanegb", strict=True))
    assert WORDINGS[0](table) == "0=k 1=c 2=p 3=a 4=n 5=e 6=g 7=b"
    assert len({wording(table) for wording in WORDINGS}) == 3


def test_tables_are_one_to_one_and_differ():
    assert len(CODEBOOKS) == 8
    for table in CODEBOOKS.values():
        assert list(table) == list(DIGITS)
        assert len(set(table.values())) == len(DIGITS)
        assert set(table.values()) <= set(LETTERS)
    # A mixture has to be one: no two books agree on more than three digits.
    books = list(CODEBOOKS.values())
    agreement = [sum(a[d] == b[d] for d in DIGITS) for i, a in enumerate(books) for b in books[:i]]
    assert max(agreement) <= 3


def test_splits_are_disjoint_and_fixed_by_seed():
    assert isinstance(TASK, Task)
    assert isinstance(TASK, GivesNewInstruction)
    seen = {}
    for split in SPLITS:
        examples = TASK.examples(split, 100, seed=3)
        assert examples == TASK.examples(split, 100, seed=3)
        assert examples != TASK.examples(split, 100, seed=4)
        assert {split_of(e.prompt) for e in examples} == {split}
        assert {len(e.prompt) for e in examples} <= set(LENGTHS)
        seen[split] = {e.prompt for e in examples}
        assert len(seen[split]) == 100
    assert not seen["train"] & seen["test"]


def test_contexts():
    contexts = TASK.contexts(count_characters)
    assert list(contexts) == ["exact", "paraphrase", "mismatched", "irrelevant"]
    assert count_characters(contexts["irrelevant"]) == count_characters(contexts["exact"])
    other = WORDINGS[0](list(TASK.other.items()))
    assert contexts["mismatched"].messages[0]["content"] == other != contexts["exact"].messages[0]["content"]


@pytest.mark.slow
@given(st.sampled_from(TASK.examples("test", 50)), st.text(max_size=10))
def test_grading(example, noise):
    assert TASK.grade(example, example.answer, False) == "right"
    assert TASK.grade(example, example.answer, True) == "truncated"
    assert TASK.grade(example, example.answer[::-1] + "p", False) == "wrong"
    assert TASK.grade(example, "", False) == "unparsable"
    assert TASK.grade(example, noise + "?", False) == "unparsable"
    under_the_other = "".join(TASK.other[digit] for digit in example.prompt)
    assert TASK.obeys(example, under_the_other)
    assert not TASK.obeys(example, example.answer)


def test_unknown_books_are_told_the_list():
    with pytest.raises(UserError, match="codebook:A"):
        get_task("codebook:Z")
