"""Where a word begins and ends, script by script. What is expected was written down by hand, not computed."""

import pytest

from cr_interp.tasks.labels import read_label
from cr_interp.tasks.words import folded, is_border, mentions

FOUND = [
    # scripts whose words stand together, and hangul with its particles
    ("答案是北京。", "北京"),
    ("首都は東京です", "東京"),
    ("トーキョーです", "トーキョー"),
    ("ﾄｳｷｮｳ", "トウキョウ"),
    ("수도는 서울입니다", "서울"),
    ("เมืองหลวงคือกรุงเทพมหานคร", "กรุงเทพ"),
    ("ទីក្រុងភ្នំពេញ", "ភ្នំពេញ"),
    ("ນະຄອນຫຼວງວຽງຈັນ", "ວຽງຈັນ"),
    ("答案是Python语言", "Python"),
    ("是4月", "4"),
    # the same text in another form
    ("I like cafe\u0301", "caf\u00e9"),
    ("caf\u00e9!", "cafe\u0301"),
    ("Die STRASSE", "Straße"),
    ("ΠΑΡΊΣΙ", "Παρίσι"),
    ("４２です", "42"),
    ("don’t", "don't"),
    ("New\n  York", "new york"),
    ("New\u00a0York", "New York"),
    ("Par\u00adis", "Paris"),
    ("\u200fپاریس\u200f", "پاریس"),
    # punctuation and markdown around a word
    ("Paris", "Paris."),
    ("Paris.", "Paris"),
    ("Paris.The capital", "Paris"),
    ("It is Paris's", "paris"),
    ("answer:Paris", "Paris"),
    ("**Paris** or _Paris_", "Paris"),
    ("_Paris_", "Paris"),
    ("दिल्ली।", "दिल्ली"),
    ("Madrid，Paris", "Paris"),
    ("I like C++.", "C++"),
    ("is it __init__?", "__init__"),
    ("?", "?"),
    # numbers
    ("It is 4.", "4"),
    ("4...", "4"),
    ("4.0", "4"),
    ("4-5", "4"),
    ("4-5", "5"),
    ("- 4", "4"),
    ("= −4", "-4"),
    ("No.4", "4"),
    ("1,024 items", "1024"),
    ("1\u202f024", "1024"),
    ("4:30", "4"),
    ("4 %", "4"),
    ("9/4", "9/4"),
]
ABSENT = [
    ("concatenate", "cat"),
    ("snake_case", "snake"),
    ("caf\u00e9", "cafe"),
    ("cafe\u0301", "cafe"),
    ("दिल्ली", "दिल"),
    ("น้ำ", "น"),
    ("👍🏽", "👍"),
    ("二十", "十"),
    ("44", "4"),
    ("4.5", "4"),
    ("4.5", "5"),
    ("4,5", "4"),
    ("4٫5", "4"),
    ("4.05", "4"),
    (".4", "4"),
    ("it is (.4)", "4"),
    ("1/4", "4"),
    ("1/4", "1"),
    ("-4", "4"),
    ("x=−4", "4"),
    ("10-4", "-4"),
    ("1,024", "24"),
    ("1,024", "1"),
    ("1.2.3", "1.2"),
    ("x2", "2"),
    ("4th", "4"),
    ("$45", "$4"),
    ("", "a"),
    ("anything", ""),
    ("anything", "  "),
    ("any thing", "\u00a0"),
    ("\u200e", "\u200e"),
]


@pytest.mark.parametrize(("text", "phrase"), FOUND)
def test_a_phrase_that_stands_there(text, phrase):
    assert mentions(text, phrase)


@pytest.mark.parametrize(("text", "phrase"), ABSENT)
def test_a_phrase_that_does_not(text, phrase):
    assert not mentions(text, phrase)


def test_the_ends_of_a_text_are_borders():
    assert is_border("ab", 0)
    assert is_border("ab", 2)
    assert not is_border("ab", 1)


def test_folding_a_folded_text_changes_nothing():
    for text, _ in FOUND:
        assert folded(folded(text)) == folded(text)


def test_labels_of_any_script():
    assert read_label("这是正面的。", ("正面", "负面")) == "正面"
    assert read_label("긍정입니다", ("긍정", "부정")) == "긍정"
    assert read_label("très_négatif", ("ne\u0301gatif", "positif")) == "ne\u0301gatif"
