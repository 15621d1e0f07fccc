"""Matching two sequences: the steps rebuild the second from the first, and hard cases stay cheap."""

import doctest
import random
import time

import pytest

from cr_interp.tables import matching


def rebuilt(one: str, other: str) -> str:
    return "".join(
        one[i:j] if kind == "equal" else other[k:m] for kind, i, j, k, m in matching.opcodes(one, other)
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [("", ""), ("a", ""), ("", "b"), ("abc", "abc"), ("abcd", "abd"), ("aaaa", "aa"), ("kitten", "sitting")],
)
def test_steps_lead_from_one_to_the_other(one, other):
    assert rebuilt(one, other) == other
    steps = matching.opcodes(one, other)
    assert all(one[i:j] == other[k:m] for kind, i, j, k, m in steps if kind == "equal")
    # They cover both without gaps.
    assert [step[1] for step in steps[1:]] == [step[2] for step in steps[:-1]]
    assert [step[3] for step in steps[1:]] == [step[4] for step in steps[:-1]]


def test_random_texts():
    draw = random.Random(0)
    for _ in range(200):
        one, other = ("".join(draw.choices("abc ", k=draw.randrange(12))) for _ in range(2))
        assert rebuilt(one, other) == other


def test_a_hard_middle_is_given_up_but_not_the_ends():
    one, other = "start" + "a" * 2000 + "end", "start" + "ab" * 1000 + "end"
    begun = time.perf_counter()
    steps = matching.opcodes(one, other)
    assert time.perf_counter() - begun < 0.5
    assert [step[0] for step in steps] == ["equal", "replace", "equal"]
    assert rebuilt(one, other) == other


def test_agreement():
    assert matching.agreement(matching.opcodes("abcd", "abxd"), 4, 4) == 0.75
    assert matching.agreement([], 0, 0) == 1.0
    assert matching.agreement(matching.opcodes("ab", "cd"), 2, 2) == 0.0


def test_examples_in_the_documentation():
    assert doctest.testmod(matching).failed == 0
