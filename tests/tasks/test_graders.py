"""Graders: the last tag, the last box, and which way an answer failed."""

from fractions import Fraction

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
        ("<answer>答案是B</answer>", False, "right"),  # no space in front of it
        ("<answer>（Ｂ）</answer>", False, "right"),  # full width
        ("<answer>_B_</answer>", False, "right"),
        ("<answer>A<answer>B</answer>", False, "right"),  # what the last tag that closes holds
        ("</answer>B<answer>", False, "unparsable"),
    ],
)
def test_choice(response, truncated, outcome):
    assert choice("ABCD")("B", response, truncated) == outcome


def test_a_key_may_be_written_like_an_answer():
    for key in ("b", "(B)", "B.", " Ｂ "):
        assert choice("ABCD")(key, "<answer>B</answer>", False) == "right"
    assert labels(())("Paris.", "<answer>Paris</answer>", False) == "right"
    assert labels(("是", "否"))("是", "<answer>是。</answer>", False) == "right"
    assert labels(())("caf\u00e9", "<answer>Cafe\u0301</answer>", False) == "right"


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
        (r"\boxed {34}", False, "right"),
        (r"\boxed{３４。}", False, "right"),
        (r"\boxed{+3.4e1}", False, "right"),
        (r"\boxed{340000e-4}", False, "right"),
        (r"\boxed{3,4}", False, "wrong"),
        (r"\boxed{−34}", False, "wrong"),
        (r"\boxed{34e99999999}", False, "wrong"),
        (r"\boxed{34e-99999999}", False, "wrong"),
        (r"\boxed{34^{34^{34^{34}}}}", False, "wrong"),
        (r"\boxed{" + "9" * 5000 + "}", False, "wrong"),
        (r"\boxed{34/0}", False, "wrong"),
        (r"\boxed{.}", False, "wrong"),
        (r"\boxed{\{34\}}", False, "wrong"),
    ],
)
def test_boxed(response, truncated, outcome):
    assert boxed("34", response, truncated) == outcome


def test_numbers_and_nested_braces():
    assert last_boxed(r"\boxed{\sqrt{\frac{1}{2}}}") == r"\sqrt{\frac{1}{2}}"
    assert number(r"-\frac12") == number("-0.5")
    assert number("1/0") == "1/0"


def test_numbers_too_large_to_write_out_are_compared_all_the_same():
    assert number("1e99999999") == number("10e99999998") == number("0.1e100000000")
    assert number("1e99999999") != number("1e99999998")
    assert number("2e-99999999") == number("20e-100000000")
    assert number("0e99999999") == 0
    assert number("3/4") == Fraction(3, 4)
    assert number("1e300") == 10**300
    assert number("-2.50e2") == -250
    assert number("1" + "0" * 900 + "e3200") == number("1e4100")  # both sides of the border


def test_what_cannot_be_judged_is_neither_right_nor_wrong():
    for grade in (contains, boxed, choice("ABCD"), labels(()), labels(("yes",))):
        for key in ("", " ", "\n"):
            for response in (r"Paris <answer>Paris</answer> \boxed{Paris}", "<answer></answer>", ""):
                assert grade(key, response, False) == "unparsable"
    assert choice("ABCD")("Paris", "<answer>A</answer>", False) == "unparsable"  # no key of this grader


def test_contains_is_by_whole_words():
    assert contains("4", "It is 4.", True) == "right"
    assert contains("4", "It is 44.", False) == "wrong"
    assert contains("4", "It is", True) == "truncated"
    assert contains("4", " ", False) == "unparsable"
    assert contains("4", "It is 4.5", False) == "wrong"
    assert contains("Paris.", "Paris", False) == "right"
    assert contains("北京", "答案是北京。", False) == "right"
    assert contains("北京", "答案是", True) == "truncated"
