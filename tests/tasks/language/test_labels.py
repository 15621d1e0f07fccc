"""Reading labels and grading are robust against every response; the order of examples is balanced everywhere."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cr_interp.errors import UserError
from cr_interp.tasks import TASKS, get_task, task_names
from cr_interp.tasks.base import Example, Task
from cr_interp.tasks.language.labels import balanced_order, few_shot, grade_label, read_label, spellings

LABELS = ("positive", "negative")
DECORATION = st.text(alphabet=" \t\n.,;:!?*_`\"'()[]{}#<>-–—“”…", max_size=8)


@st.composite
def spelt(draw, words=LABELS):
    """A label in any casing with any punctuation around it: (label, response)."""
    label = draw(st.sampled_from(words))
    upper = draw(st.lists(st.booleans(), min_size=len(label), max_size=len(label)))
    cased = "".join(c.upper() if up else c for c, up in zip(label, upper, strict=True))
    return label, draw(DECORATION) + cased + draw(DECORATION)


@given(spelt(), st.booleans())
def test_a_readable_label_is_judged_whatever_surrounds_it(case, truncated):
    label, response = case
    other = LABELS[1 - LABELS.index(label)]
    assert grade_label(label, response, truncated, LABELS) == "right"
    assert grade_label(other, response, truncated, LABELS) == "wrong"


@given(spelt(["positive"]), spelt(["negative"]), st.booleans(), st.booleans())
def test_both_labels_are_no_answer(one, other, swap, truncated):
    responses = [one[1], other[1]]
    response = " ".join(reversed(responses) if swap else responses)
    assert grade_label("positive", response, truncated, LABELS) == ("truncated" if truncated else "unparsable")


@pytest.mark.slow
@given(st.text(max_size=60), st.booleans())
def test_text_without_a_label_is_no_answer(response, truncated):
    # Few random texts hold the stems of the labels; without them no label can be named.
    response = response.casefold().replace("posi", "").replace("nega", "")
    assert grade_label("positive", response, truncated, LABELS) == ("truncated" if truncated else "unparsable")


@given(st.text(), st.text(), st.booleans())
def test_grading_never_raises(answer, response, truncated):
    assert grade_label(answer, response, truncated, LABELS) in ("right", "wrong", "unparsable", "truncated")


@pytest.mark.parametrize("response", ["positively", "nonpositive", "posi", "positive2", ""])
def test_a_label_counts_only_as_a_whole_word(response):
    assert read_label(response, LABELS) is None


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("Animals.", "animal"),
        ("It is a country", "country"),
        ("COUNTRIES", "country"),
        ("food food food", "food"),
        ("__Food__", "food"),
    ],
)
def test_plurals_repetitions_and_sentences_are_read(response, label):
    assert read_label(response, ("animal", "food", "country")) == label


def test_plural_after_a_vowel():
    assert spellings("toy") == ("toy", "toys")


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 4), max_size=5), max_size=4),
    st.integers(0, 99),
)
def test_balanced_order_holds_every_example_once(sizes, seed):
    sources = {
        label: [[Example(f"{label}{s}.{i}", "", label) for i in range(size)] for s, size in enumerate(per_source)]
        for label, per_source in sizes.items()
    }
    ordered = balanced_order(sources, random.Random(seed))
    expected = [example for per_label in sources.values() for source in per_label for example in source]
    assert Counter(example.id for example in ordered) == Counter(example.id for example in expected)


@given(st.integers(1, 30), st.integers(0, 99))
def test_every_beginning_is_balanced(n, seed):
    sources = {
        label: [[Example(f"{s}.{i}", "", label) for i in range(3)] for s in range(5)] for label in ("a", "b")
    }
    first = balanced_order(sources, random.Random(seed))[:n]
    labels = Counter(example.answer for example in first)
    assert abs(labels["a"] - labels["b"]) <= 1
    for label in ("a", "b"):
        used = Counter(example.id.split(".")[0] for example in first if example.answer == label)
        used.update({str(s): 0 for s in range(5)})
        assert max(used.values()) - min(used.values()) <= 1  # every source before any comes again


def test_few_shot_alternates_roles():
    context = few_shot("Be short.", [("one?", "1"), ("two?", "2")])
    assert [m["role"] for m in context.messages] == ["system", "user", "assistant", "user", "assistant"]


@pytest.mark.parametrize("name", TASKS)
def test_registered_tasks_are_tasks(name):
    task = get_task(name)
    assert isinstance(task, Task)
    assert task.name == name


def test_the_rules_are_listed_and_found():
    rules = [name for name in task_names() if name.startswith("rules:")]
    assert "rules:shift" in rules
    assert isinstance(get_task("rules:shift"), Task)


@pytest.mark.parametrize("name", ["sentimant", "rules:shft", "rules", ""])
def test_an_unknown_task_is_refused(name):
    with pytest.raises(UserError, match=r"Valid: .*rules:shift.*sentiment"):
        get_task(name)
