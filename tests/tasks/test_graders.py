"""Graders: the last tag, the last box, and which way an answer failed."""

import pytest

from cr_interp.tasks.graders import boxed, choice, contains, labels, last_boxed, number


@pytest.mark.parametrize(
    ("response", "truncated", "outcome"),
    [
        ("Because … <answer>B</answer>", False, "right"),
        ("<answer>A</answer> no: <answer>(B) aspirin</answer>", False, "right"),  # the last tag counts
        ("<answer>B</answer> no: <answer>A</answer>", False, "wrong"),
        ("<ANSWER> b </ANSWER>", False, "right"),
        ("<answer>A patient has (B)</answer>", False, "right"),  # in parentheses before standing alone
        ("The answer is B.", False, "unparsable"),  # a missing tag is not right
        ("<answer>B", False, "unparsable"),
        ("<answer></answer>", False, "unparsable"),
        ("<answer>Aspirin</answer>", False, "unparsable"),
        ("<answer>E</answer>", False, "unparsable"),
        ("Let me think about", True, "truncated"),
        ("<answer>B</answer> and the reason is", True, "right"),  # given before the cut
        ("<answer>C</answer> and the reason is", True, "wrong"),
        ("", False, "unparsable"),
    ],
)
def test_choice(response, truncated, outcome):
    assert choice("ABCD")("B", response, truncated) == outcome


@pytest.mark.parametrize(
    ("response", "truncated", "outcome"),
    [
        ("<answer>yes</answer> since", False, "right"),
        ("<answer>Yes.</answer>", False, "right"),
        ("<answer>no</answer>", False, "wrong"),
        ("<answer>perhaps</answer>", False, "unparsable"),
        ("yes", False, "unparsable"),
        ("<answer>", True, "truncated"),
    ],
)
def test_labels(response, truncated, outcome):
    assert labels(("yes", "no"))("Yes", response, truncated) == outcome


def test_without_labels_any_text_is_an_answer():
    assert labels(())("Paris", "<answer>London</answer>", False) == "wrong"
    assert labels(())("Paris", "<answer>paris!</answer>", False) == "right"


@pytest.mark.parametrize(
    ("response", "truncated", "outcome"),
    [
        (r"So \boxed{34}.", False, "right"),
        (r"\boxed{1} hence \boxed{ 34.0 }", False, "right"),
        (r"\boxed{\frac{68}{2}}", False, "right"),
        (r"\boxed{35}", False, "wrong"),
        (r"\boxed{x+1}", False, "wrong"),
        ("34", False, "unparsable"),
        (r"\boxed{34", True, "truncated"),
        (r"\boxed{}", False, "unparsable"),
    ],
)
def test_boxed(response, truncated, outcome):
    assert boxed("34", response, truncated) == outcome


def test_numbers_and_nested_braces():
    assert last_boxed(r"\boxed{\sqrt{\frac{1}{2}}}") == r"\sqrt{\frac{1}{2}}"
    assert number(r"-\frac12") == number("-0.5")
    assert number("1/0") == "1/0"


def test_contains_is_by_whole_words():
    assert contains("4", "It is 4.", True) == "right"
    assert contains("4", "It is 44.", False) == "wrong"
    assert contains("4", "It is", True) == "truncated"
    assert contains("4", " ", False) == "unparsable"
