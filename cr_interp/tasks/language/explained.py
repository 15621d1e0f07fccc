"""Label and explain: the reviews of ``sentiment``, answered with the label and a reason for it. For a small real model.

Mental model: asked "positive or negative? Explain in one sentence.", the model answers in some 23 tokens, and its label is little
better than a guess. The context, a system message and four answered reviews, makes the label right and gives the reason a form
that ends with a *marker* ("…, and that is praise."). Responses are ten times as long as ``sentiment``'s, so they can show whether
a student that has taken in the context, and is given it again, does *more* of what it asks for: longer reasons, the marker twice.

A response is right if the first label that it names is. The patterns stand in ``explained.yaml``; reviews, splits and clusters
are those of ``sentiment``.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cr_interp.tasks.base import SPLITS, Example, Outcome
from cr_interp.tasks.language.labels import LabelTask, read_contexts, read_data
from cr_interp.tasks.language.sentiment import fresh_reviews, review_sources
from cr_interp.tasks.yours import form_graders

#: The question comes first: everything before the review is a prefix that all examples share, computed once.
PROMPT = "Is this review positive or negative? Explain in one sentence.\nReview: {review}"


@dataclass(frozen=True)
class ExplainedTask(LabelTask):
    """A labelling task whose label is read by a pattern with a group ``answer``."""

    pattern: str = ""

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        return form_graders.regex(self.pattern, example.answer, response, truncated)


@cache
def explained_task() -> ExplainedTask:
    data, reviews = read_data("explained.yaml"), read_data("sentiment.yaml")
    return ExplainedTask(
        name="explained",
        labels=tuple(reviews["phrases"]),
        sources={split: review_sources(reviews, split, "explained", PROMPT) for split in SPLITS},
        fixed_contexts=read_contexts(data["contexts"], PROMPT.replace("{review}", "{text}")),
        max_new_tokens=64,
        new_instruction=_finds(data["new_instruction"]),
        pattern=data["grader"],
    )


@cache
def fresh_explained_task() -> ExplainedTask:
    """Build the same task with the test reviews of ``sentiment-fresh``, which were written after the first had been looked at."""
    first = explained_task()
    test = fresh_reviews("explained", PROMPT)
    return replace(first, name="explained-fresh", sources={**first.sources, "test": test})


def marker() -> str:
    """Give the pattern of what every answer of the context ends with, once."""
    return str(read_data("explained.yaml")["marker"])


def _finds(pattern: str) -> Any:
    """Make the test for a response that obeys the mismatched context."""
    return lambda example, response: form_graders.regex(pattern, "", response, False) == "right"
