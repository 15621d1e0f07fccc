"""The task `explained`: the reviews of `sentiment`, graded by the first label that a response names."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from cr_interp.tasks import get_task
from cr_interp.tasks.base import SPLITS
from cr_interp.tasks.language.explained import explained_task, marker
from cr_interp.tasks.language.sentiment import sentiment_task
from cr_interp.views import Context

TASK = explained_task()
POSITIVE = next(example for example in TASK.examples("test") if example.answer == "positive")


def count_words(context: Context) -> int:
    return sum(3 + len(message["content"].split()) for message in context.messages)


def test_it_is_known_by_its_name():
    assert get_task("explained") is TASK
    assert TASK.max_new_tokens == 64


@pytest.mark.parametrize("split", SPLITS)
def test_its_reviews_splits_and_clusters_are_those_of_sentiment(split):
    mine, others = TASK.examples(split), sentiment_task().examples(split)
    review = [example.prompt.partition("Review: ")[2] for example in mine]
    assert set(review) == {example.prompt.partition("Review: ")[2] for example in others}
    assert Counter(example.cluster.replace("explained", "sentiment") for example in mine) == Counter(
        example.cluster for example in others
    )
    assert all(example.id.startswith(f"explained-{split}-{example.answer}-") for example in mine)


def test_the_first_56_test_reviews_are_56_clusters_of_both_labels_equally():
    first = TASK.examples("test", 56)
    assert len({example.cluster for example in first}) == 56
    assert Counter(example.answer for example in first) == {"positive": 28, "negative": 28}


@pytest.mark.parametrize(
    ("response", "truncated", "expected"),
    [
        ("The review is positive, as the writer enjoys it, and that is praise.", False, "right"),
        ("The review is negative, as the writer is annoyed, and that is a complaint.", False, "wrong"),
        ("Positive", False, "right"),
        ("The review is positive, but the tone is somewhat negative.", False, "right"),  # the first one counts
        ("It is negative rather than positive", True, "wrong"),
        ("The battery dies within an hour.", False, "unparsable"),
        ("The battery dies within", True, "truncated"),
        ("It speaks positively of it.", False, "unparsable"),
        ("", False, "unparsable"),
    ],
)
def test_the_first_label_is_graded(response, truncated, expected):
    assert TASK.grade(POSITIVE, response, truncated) == expected


def test_the_new_instruction_wants_its_own_words():
    assert TASK.obeys(POSITIVE, "The product is Malo, since it tore.")
    assert not TASK.obeys(POSITIVE, "The review is positive.")
    assert not TASK.obeys(POSITIVE, "buenos")


def test_each_answer_of_the_contexts_is_right_and_has_the_marker_once():
    contexts = TASK.contexts(count_words)
    assert set(contexts) == {"exact", "paraphrase", "mismatched", "irrelevant"}
    said = {
        name: [message["content"] for message in context.messages if message["role"] == "assistant"]
        for name, context in contexts.items()
    }
    for name in ("exact", "paraphrase"):
        assert [len(re.findall(marker(), each)) for each in said[name]] == [1] * 4
        labels = ["positive" if each.endswith("praise.") else "negative" for each in said[name]]
        assert Counter(labels) == {"positive": 2, "negative": 2}
        for label, each in zip(labels, said[name], strict=True):
            assert TASK.grade(replace(POSITIVE, answer=label), each, False) == "right"
    assert all(TASK.obeys(POSITIVE, each) for each in said["mismatched"])
    assert not any(re.search(marker(), each) for name in ("mismatched", "irrelevant") for each in said[name])
    assert 0 <= count_words(contexts["exact"]) - count_words(contexts["irrelevant"]) <= 2


def test_no_review_of_a_context_is_in_a_split():
    phrases = {example.prompt.partition("Review: ")[2] for split in SPLITS for example in TASK.examples(split)}
    for context in TASK.contexts(count_words).values():
        for message in context.messages:
            assert message["content"].partition("Review: ")[2] not in phrases


def test_fresh_reviews_are_those_of_the_other_task_s_and_nothing_else_is_new():
    fresh, others = get_task("explained-fresh"), get_task("sentiment-fresh")
    mine, reviews = fresh.examples("test"), {e.prompt.partition("Review: ")[2] for e in others.examples("test")}
    assert {example.prompt.partition("Review: ")[2] for example in mine} == reviews
    assert len(mine) == len({example.cluster for example in mine}) == 108
    assert not {example.cluster for example in mine} & {example.cluster for example in TASK.examples("test")}
    assert set(fresh.examples("train")) == set(TASK.examples("train"))
    assert fresh.grade(mine[0], f"It is {mine[0].answer}, I think.", False) == "right"
