"""No text makes a grader raise, or take longer than its length: models repeat themselves, and write what they like."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cr_interp.tasks import get_task
from cr_interp.tasks.graders import boxed, choice, contains, labels
from cr_interp.tasks.language.labels import grade_label
from cr_interp.vocabulary import OUTCOMES

GRADERS = {
    "contains": contains,
    "boxed": boxed,
    "choice": choice("ABCD"),
    "labels": labels(("yes", "no")),
    "any label": labels(()),
    "named label": lambda answer, response, truncated: grade_label(
        answer, response, truncated, ("positive", "正面")
    ),
}
#: Of which long texts are made: what graders look for, halves of it, and what has been slow somewhere.
PIECES = [
    "<answer>", "</answer>", "<answer", "\\boxed{", "\\boxed", "{", "}", "\\", "\\frac{", "\\frac1", "1", "9", "1e99999999",
    "-", ".", ",", "1,234", "1.", "/", "1/", "(", "(A", "( ", ")", " ", "\n", "\t", "_", "a_", "A", "a", "ab", "cat", "^{9", "!",
    "京", "二", "十", "서울", "กรุง", "ﾞ", "\u0301", "\u0301\u0316", "a\u0301", "\u200d", "👍🏽", "\ud800", "\x00", "\x1b[31m",
    "\u2028", "İ", "ß", "[up]", "[ ", "\n\n--- turn 2 ---\n\n", "up", "positive", "ﷺ",
]  # fmt: skip
ANSWERS = ["", " ", "4", "-4", "4.5", "Paris.", "cat", "a b a", "京", "正面", "positive", "B", "(B)", "yes", "\\frac{1}{2}",
           "1e99999999", "\u0301", "\ud800", "?", "{", "x+1"]  # fmt: skip

texts = st.lists(
    st.one_of(
        st.text(max_size=20), st.tuples(st.sampled_from(PIECES), st.integers(1, 2000)).map(lambda p: p[0] * p[1])
    ),
    max_size=6,
).map("".join)


@pytest.mark.parametrize("name", list(GRADERS))
@given(answer=st.one_of(st.sampled_from(ANSWERS), st.text(max_size=12)), response=texts, truncated=st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_grader_returns_an_outcome(name, answer, response, truncated):
    outcome = GRADERS[name](answer, response, truncated)
    assert outcome in OUTCOMES
    assert truncated or outcome != "truncated"


@pytest.mark.parametrize(
    "task", ["rules:shift", "codebook:A", "frozenlake:A", "sokoban:A", "sentiment", "wordclass", "explained"]
)
@given(response=texts, truncated=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_built_in_task_returns_an_outcome(task, response, truncated):
    chosen = get_task(task)
    example = chosen.examples("test", 1)[0]
    assert chosen.grade(example, response, truncated) in OUTCOMES
    assert chosen.obeys(example, response) in (True, False)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", list(GRADERS))
def test_a_piece_repeated_for_ever_is_graded_at_once(name):
    """50,000 characters each: whatever grew with their square would take minutes."""
    for piece in PIECES:
        long = piece * (50_000 // len(piece))
        for response in (long, "\\boxed{" + long, "\\boxed{" + long + "}", "<answer>" + long + "</answer>"):
            for answer in ("4", "cat", "B"):
                assert GRADERS[name](answer, response, False) in OUTCOMES
