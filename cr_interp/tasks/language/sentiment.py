"""Sentiment: is a short review positive or negative? For a real instruct model.

Mental model: a review is an opinion *phrase* in a neutral *frame* ("Bought it last month: the battery lasts
for days."). Both are in ``sentiment.yaml``, already split: no phrase **and no frame** of the test split is
seen in training, so a test review is new in both parts. The frames of one phrase are a *cluster*: a model that gets a
phrase wrong gets it wrong in most of them, so 200 reviews of 56 phrases say as much as some 65 independent ones. The
context is a system message and six answered reviews that belong to no split. The paper's effect to look for: once the
student answers like that without the context, does it still do so with it?
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from cr_interp.tasks.base import SPLITS, Example
from cr_interp.tasks.language.labels import LabelTask, Sources, read_contexts, read_data, read_label

#: The question comes first: everything before the review is a prefix that all examples share, computed once.
PROMPT = "Is this review positive or negative? Answer with one word.\nReview: {review}"


@cache
def sentiment_task() -> LabelTask:
    data = read_data("sentiment.yaml")
    return LabelTask(
        name="sentiment",
        labels=tuple(data["phrases"]),
        sources={split: review_sources(data, split, "sentiment", PROMPT) for split in SPLITS},
        fixed_contexts=read_contexts(data["contexts"], PROMPT.replace("{review}", "{text}")),
        new_instruction=answers_in_spanish,
    )


@cache
def fresh_sentiment_task() -> LabelTask:
    """Build the same task with other test reviews: 108 phrases, written after the first had been looked at, one frame each."""
    first = sentiment_task()
    return replace(
        first, name="sentiment-fresh", sources={**first.sources, "test": fresh_reviews("sentiment", PROMPT)}
    )


def fresh_reviews(task: str, question: str) -> Sources:
    """Make the reviews of ``sentiment_fresh.yaml``, one frame to a phrase, as examples of a task."""
    frames = read_data("sentiment.yaml")["frames"]["test"]
    return {
        label: [
            [_example("fresh", label, p, phrase, p % len(frames), frames, task, question)]
            for p, phrase in enumerate(phrases)
        ]
        for label, phrases in read_data("sentiment_fresh.yaml").items()
    }


def answers_in_spanish(example: Example, response: str) -> bool:
    """Tell whether the answer is "bueno" or "malo", which the mismatched context asks for; which of them is not graded."""
    return read_label(response, ("bueno", "malo")) is not None


def put_in_frame(phrase: str, frame: str) -> str:
    """Put a phrase where a frame has ``{phrase}``, or ``{Phrase}`` for a capital first letter.

    >>> put_in_frame("it works", "{Phrase}. Mine is blue.")
    'It works. Mine is blue.'
    """
    return frame.format(phrase=phrase, Phrase=phrase[0].upper() + phrase[1:])


def review_sources(data: dict[str, Any], split: str, task: str, question: str) -> Sources:
    """Make a split's reviews from ``sentiment.yaml``: label → phrase → the phrase in each frame, as examples of a task.

    ``question`` is the prompt, with the place ``{review}``.
    """
    frames = data["frames"][split]
    return {
        label: [
            [_example(split, label, p, phrase, f, frames, task, question) for f in range(len(frames))]
            for p, phrase in enumerate(phrases[split])
        ]
        for label, phrases in data["phrases"].items()
    }


def _example(
    split: str,
    label: str,
    p: int,
    phrase: str,
    f: int,
    frames: Sequence[str],
    task: str,
    question: str,
) -> Example:
    phrase_id = f"{task}-{split}-{label}-{p:02}"
    prompt = question.format(review=put_in_frame(phrase, frames[f]))
    return Example(id=f"{phrase_id}-{f:02}", prompt=prompt, answer=label, cluster=phrase_id)
