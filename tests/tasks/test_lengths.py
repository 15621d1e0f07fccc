"""Filler brings a context to a given length under any way of counting, or says that it cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cr_interp.errors import UserError
from cr_interp.tasks.lengths import FILLER, TOLERANCE, equal_length
from cr_interp.views import Context

START = Context(({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello there."}))


def count_words(context: Context) -> int:
    return sum(len(message["content"].split()) for message in context.messages)


def count_characters(context: Context) -> int:
    return sum(len(message["content"]) for message in context.messages)


@given(st.integers(min_value=4, max_value=400))
def test_word_count_is_reached_exactly(wanted):
    assert count_words(equal_length(START, wanted, FILLER, count_words)) == wanted


@given(st.integers(min_value=20, max_value=900))
def test_character_count_is_reached_within_the_tolerance(wanted):
    assert wanted - TOLERANCE <= count_characters(equal_length(START, wanted, FILLER, count_characters)) <= wanted


def test_only_the_system_message_grows():
    longer = equal_length(START, 20, FILLER, count_words)
    assert longer.messages[1:] == START.messages[1:]
    assert longer.messages[0]["content"].startswith("Be kind. ")
    assert START.messages[0]["content"] == "Be kind."


def test_equal_already_is_left_alone():
    assert equal_length(START, 4, FILLER, count_words) == START


def test_too_long_a_start_is_refused():
    with pytest.raises(UserError, match="already has 4 tokens; expected at most 3"):
        equal_length(START, 3, FILLER, count_words)


def test_no_system_message_is_refused():
    with pytest.raises(UserError, match="system message"):
        equal_length(Context(START.messages[1:]), 20, FILLER, count_words)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["interminable"], count_characters),  # every step is larger than the tolerance
        ([], count_words),
        (FILLER, lambda context: 4),  # a counter that never moves must not hang
    ],
)
def test_out_of_reach_says_found_and_expected(words, count):
    with pytest.raises(UserError, match=r"closer than \d+ tokens; expected 28 to 30"):
        equal_length(START, 30, words, count)
