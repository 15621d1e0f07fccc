"""The sentiment task: nothing tested was trained on, classes are balanced, controls are what they claim."""

from collections import Counter

import pytest

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.base import SPLITS
from cr_interp.tasks.language.labels import read_data
from cr_interp.tasks.language.sentiment import PROMPT, sentiment_task
from cr_interp.views import Context

DATA = read_data("sentiment.yaml")
TASK = sentiment_task()
PHRASES = {split: {p.lower() for by in DATA["phrases"].values() for p in by[split]} for split in SPLITS}
FRAMES = {split: set(DATA["frames"][split]) for split in SPLITS}
ALL_PHRASES = set.union(*PHRASES.values())


def count_words(context: Context) -> int:
    return sum(3 + len(message["content"].split()) for message in context.messages)


def phrase_in(prompt: str) -> str:
    """The longest phrase that a prompt holds."""
    return max((p for p in ALL_PHRASES if p in prompt.lower()), key=len)


def test_phrases_and_frames_are_in_one_split_only():
    for i, one in enumerate(SPLITS):
        for other in SPLITS[i + 1 :]:
            assert not PHRASES[one] & PHRASES[other]
            assert not FRAMES[one] & FRAMES[other]


def test_promised_numbers():
    assert len(ALL_PHRASES) >= 140
    assert len(set.union(*FRAMES.values())) >= 12
    for label in TASK.labels:
        assert sum(len(DATA["phrases"][label][split]) for split in SPLITS) >= 70
    assert len(TASK.examples("test")) >= 200


def test_prompts_hold_phrases_of_their_split_only():
    for split in SPLITS:
        assert {phrase_in(example.prompt) for example in TASK.examples(split)} == PHRASES[split]


def test_phrases_and_frames_do_not_give_the_answer_away():
    for text in ALL_PHRASES | set.union(*FRAMES.values()):
        assert "positive" not in text.lower()
        assert "negative" not in text.lower()


@pytest.mark.parametrize("split", SPLITS)
def test_reviews_are_short_distinct_and_put_last(split):
    examples = TASK.examples(split)
    question = PROMPT.removesuffix("{review}")
    assert len({e.id for e in examples}) == len({e.prompt for e in examples}) == len(examples)
    assert all(e.prompt.startswith(question) for e in examples)
    assert max(len(e.prompt.removeprefix(question).split()) for e in examples) <= 16


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("n", [1, 2, 31, 150, None])
def test_balanced_by_class_and_by_phrase(split, n):
    examples = TASK.examples(split, n, seed=3)
    classes = Counter({label: 0 for label in TASK.labels})
    classes.update(e.answer for e in examples)
    assert max(classes.values()) - min(classes.values()) <= 1
    used = Counter({p: 0 for p in PHRASES[split]})
    used.update(phrase_in(e.prompt) for e in examples)
    assert max(used.values()) - min(used.values()) <= 1


def test_order_is_fixed_by_the_seed():
    assert TASK.examples("test", 50, seed=1) == TASK.examples("test", 50, seed=1)
    assert TASK.examples("test", 50, seed=1) != TASK.examples("test", 50, seed=2)
    assert TASK.examples("test", 50, seed=1) == TASK.examples("test", None, seed=1)[:50]


def test_more_than_there_are_is_refused():
    with pytest.raises(UserError, match="which has 160"):
        TASK.examples("validation", 161)
    with pytest.raises(UserError, match="no split 'tset'"):
        TASK.examples("tset")


def test_contexts_are_balanced_and_of_no_split():
    contexts = TASK.contexts(count_words)
    assert list(contexts) == ["exact", "paraphrase", "mismatched", "irrelevant"]
    for context in contexts.values():
        assert [m["role"] for m in context.messages] == ["system"] + 6 * ["user", "assistant"]
        text = " ".join(m["content"] for m in context.messages).lower()
        assert not [p for p in ALL_PHRASES if p in text]
    for name in ("exact", "paraphrase"):
        answers = Counter(m["content"] for m in contexts[name].messages if m["role"] == "assistant")
        assert answers == {"positive": 3, "negative": 3}
        users = [m["content"] for m in contexts[name].messages if m["role"] == "user"]
        assert all(u.startswith(PROMPT.removesuffix("{review}")) for u in users)
    texts = [{m["content"] for m in c.messages if m["role"] == "user"} for c in contexts.values()]
    assert len(set.union(*texts)) == 24  # no control repeats a turn of another


def test_the_controls_never_show_a_label_of_the_task():
    """The mismatched context asks the task's own question (else the model answers the question, not the context)."""
    contexts = TASK.contexts(count_words)
    question = PROMPT.removesuffix("{review}")
    users = [m["content"] for m in contexts["mismatched"].messages if m["role"] == "user"]
    assert all(u.startswith(question) for u in users)
    for name in ("mismatched", "irrelevant"):
        text = " ".join(m["content"].removeprefix(question) for m in contexts[name].messages).lower()
        assert not [label for label in TASK.labels if label in text]


def test_the_new_instruction_is_an_answer_in_spanish():
    example = TASK.examples("test", 1)[0]
    assert [TASK.obeys(example, r) for r in ("Bueno.", "malo", "good", example.answer)] == [
        True,
        True,
        False,
        False,
    ]
    answers = [
        m["content"] for m in TASK.contexts(count_words)["mismatched"].messages if m["role"] == "assistant"
    ]
    assert all(TASK.obeys(example, answer) for answer in answers)


def test_the_irrelevant_context_is_as_long_as_the_exact_one():
    contexts = TASK.contexts(count_words)
    assert abs(count_words(contexts["irrelevant"]) - count_words(contexts["exact"])) <= 2


def test_grading():
    example = TASK.examples("test", 1)[0]
    other = next(label for label in TASK.labels if label != example.answer)
    assert TASK.grade(example, f" {example.answer.title()}.", False) == "right"
    assert TASK.grade(example, f"**{other}**", True) == "wrong"
    assert TASK.grade(example, "I would say that this", True) == "truncated"
    assert TASK.grade(example, "Good", False) == "unparsable"


def test_fresh_reviews_are_new_and_one_to_a_phrase():
    fresh = get_task("sentiment-fresh").examples("test")
    assert len(fresh) == len({each.cluster for each in fresh}) == 108
    assert Counter(each.answer for each in fresh) == {"positive": 54, "negative": 54}
    assert not any(phrase in each.prompt.lower() for each in fresh for phrase in ALL_PHRASES)
    assert not {each.cluster for each in fresh} & {each.cluster for each in TASK.examples("test")}
    # All else is the first task's, in an order of its own.
    assert set(get_task("sentiment-fresh").examples("train")) == set(TASK.examples("train"))
