"""Logs and manifests that are not what they seem: read as far as they are sound, refused in a sentence otherwise."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.files import read_jsonl
from cr_interp.study.schema import wrong_columns
from cr_interp.study.searching import find_studies, studies_in
from cr_interp.study.study import Study


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_a_row_of_a_log_ends_with_a_line_feed_only(character, tmp_path):
    rows = [{"kind": "train", "step": step, "note": f"one{character}two"} for step in (1, 2)]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "train.jsonl").write_text(text, encoding=encoding, newline="")
        assert read_jsonl(tmp_path / "train.jsonl") == rows


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": "x"}',
        b'{"step": null}',
        b'{"step": [1]}',
        b'{"step": NaN}',
        b'{"step": 1e400}',
        b'{"step": -1}',
        b"[1]",
        b"[" * 50_000,
        b'{"step": 2, "kind"',
        b"\xff\xfe",
        b'{"step": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_row_takes_no_other_with_it(line, tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    assert [row["step"] for row in read_jsonl(tmp_path / "train.jsonl")] == [1, 3]


@pytest.mark.parametrize(
    "data", [b"\xff\xfe{", b"[" * 50_000, b"[]", b"{}", b"null", '{"schema_version": "é"}'.encode("latin-1")]
)
def test_a_broken_manifest_is_told(data, tmp_path):
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(UserError, match=r"manifest of .* is damaged"):
        Study.open(tmp_path)


def test_a_folder_that_lets_nobody_in_hides_no_other(tmp_path, monkeypatch):
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    real = Path.is_file

    def is_file(path):
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    monkeypatch.setenv("CR_INTERP_STUDIES", str(tmp_path))
    assert list(studies_in(tmp_path)) == ["open"]
    assert find_studies()["open"] == tmp_path / "open"


@pytest.mark.parametrize("values", [["", '{"messages": []}'], [0.25, None], [True, False], [None, None]])
def test_before_is_what_an_answer_was_given_behind_or_what_was_there_before_a_patch(values):
    assert wrong_columns(pd.DataFrame({"before": values})) == []


@pytest.mark.parametrize("values", [["", 1.5], [[1], [2]], [b"x", b"y"]])
def test_before_is_nothing_else(values):
    (said,) = wrong_columns(pd.DataFrame({"before": values}))
    assert "neither numbers nor texts" in said
