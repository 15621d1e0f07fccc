"""Encodings, line separators and JSON that is not what it seems: read as it was meant, or refused in a sentence."""

import json

import pytest

from cr_interp.errors import UserError
from cr_interp.system.text_files import decoded, json_lines, read_json, read_text

WORDS = "café 北京 🙂\nline two"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding(encoding, tmp_path):
    (tmp_path / "a.txt").write_bytes(WORDS.encode(encoding))
    assert read_text(tmp_path / "a.txt") == WORDS


def test_big_endian_texts_with_a_mark():
    assert decoded(b"\xfe\xff" + WORDS.encode("utf-16-be"), "a") == WORDS
    assert decoded(b"\x00\x00\xfe\xff" + WORDS.encode("utf-32-be"), "a") == WORDS


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("a\nb\ncafé".encode("latin-1"), "not UTF-8: line 3 has the byte 0xe9"),
        ("日本".encode("shift_jis"), "not UTF-8: line 1"),
        (b"\xef\xbb\xbf\xff", "not UTF-8"),
        (b"\xff\xfeab\x00", "begins like UTF-16"),
        ("ab".encode("utf-16-le"), "zero byte"),
        (b"one\ntwo\x00", "line 2 has a zero byte"),
        (b"\xed\xa0\x80", "not UTF-8"),  # a surrogate half
        (b"\x80\x04\x95", "not UTF-8"),  # a pickle
    ],
)
def test_what_is_no_text_is_refused_with_its_line(data, said, tmp_path):
    (tmp_path / "a").write_bytes(data)
    for read in (read_text, read_json, lambda path: list(json_lines(path))):
        with pytest.raises(UserError, match=said):
            read(tmp_path / "a")


def test_lines_end_as_python_reads_them(tmp_path):
    (tmp_path / "a").write_bytes(b"one\r\ntwo\rthree\n")
    assert read_text(tmp_path / "a") == "one\ntwo\nthree\n"


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_only_a_line_feed_ends_a_line_of_json(character, tmp_path):
    row = {"text": f"one{character}two"}
    written = json.dumps(row, ensure_ascii=False)
    (tmp_path / "a").write_text(f"{written}\r\n\n{written}", encoding="utf-8", newline="")
    assert list(json_lines(tmp_path / "a")) == [(1, row), (3, row)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2, is not JSON"),
        ("[" * 100_000, "line 2.*nests too deep"),
        ("1" * 5000, "line 2, is not JSON"),
        ('{"a": "\\ud800"}', r"line 2.*half of a surrogate pair \(\\ud800\)"),
        ('{"\\udfff": 1}', "surrogate"),
    ],
)
def test_json_that_cannot_be_used_is_refused_with_its_line(line, said, tmp_path):
    (tmp_path / "a").write_text("1\n" + line)
    with pytest.raises(UserError, match=said):
        list(json_lines(tmp_path / "a"))


def test_a_whole_surrogate_pair_is_one_character(tmp_path):
    (tmp_path / "a").write_text('"\\ud83d\\ude42"')
    assert read_json(tmp_path / "a") == "🙂"


def test_files_that_cannot_be_opened(tmp_path):
    for path in (tmp_path / "none", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"Could not read.*Give a JSON file"):
            read_json(path)
