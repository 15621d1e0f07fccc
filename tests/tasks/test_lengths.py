"""Filler brings a context to a given length under any way of counting, or says that it cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import piece_tokenizer

from cr_interp.errors import UserError
from cr_interp.tasks.lengths import FILLER, TOLERANCE, equal_length
from cr_interp.views import Context, context_length

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


def word_by_word(start, wanted, words, count):
    """The definition: each word in turn is taken if there is room for it, until a full round of them has found none."""
    context, turn, passed_over = start, 0, 0
    while count(context) < wanted and passed_over < len(words):
        system, *rest = context.messages
        content = f"{system['content']} {words[turn % len(words)]}"
        longer = Context(({"role": "system", "content": content}, *rest))
        fits = count(context) < count(longer) <= wanted
        context, passed_over = (longer, 0) if fits else (context, passed_over + 1)
        turn += 1
    return context


@pytest.mark.parametrize("pieces", [False, True])
def test_the_words_are_those_that_one_at_a_time_are_taken(pieces, tiny_llama):
    """By the letters of a tokenizer and by its pieces, which merge within a word."""
    tokenizer = piece_tokenizer(FILLER[:40]) if pieces else tiny_llama.tokenizer
    counted = []

    def count(context):
        counted.append(context)
        return context_length(tokenizer, context)

    for wanted in (*range(45, 60), 75, 151, 700):
        counted.clear()
        found = equal_length(START, wanted, FILLER, count)
        asked = len(counted)
        assert found == word_by_word(START, wanted, FILLER, count), wanted
    taken = len(found.messages[0]["content"].split())
    assert asked < taken / 2 + len(FILLER), "a full round at the end at most"


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
