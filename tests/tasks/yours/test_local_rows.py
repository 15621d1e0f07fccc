import json

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.tasks.yours.local_rows import read_local

ROWS = [{"prompt": f"q{i}\u2028two", "answer": str(i)} for i in range(10)]


def lines(rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def test_the_same_rows_from_every_kind_of_file(tmp_path):
    (tmp_path / "a.jsonl").write_text("\ufeff" + lines(ROWS), encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "b.JSON").write_text(lines(ROWS), encoding="utf-8")
    pd.DataFrame(ROWS).to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig")
    pd.DataFrame(ROWS).to_parquet(tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        rows = read_local(path)
        assert rows.column_names == ["prompt", "answer"]
        assert len(rows) == 10
        assert [
            dict(zip(rows.column_names, row, strict=True)) for row in zip(*rows.columns.values(), strict=True)
        ] == ROWS


def test_the_cells_of_a_csv_are_texts_as_they_stand_there(tmp_path):
    answers = ["007", "NA", "4.50", "True", "", "null", "1e5", ' "quoted"\nline']
    pd.DataFrame({"answer": answers}).to_csv(tmp_path / "a.csv")  # with the index, as a column without a name
    assert read_local(tmp_path / "a.csv")["answer"] == answers


def test_a_key_that_some_rows_lack_is_a_gap(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"b": [1, "x"]}\n')
    assert read_local(tmp_path / "a.jsonl").columns == {"a": [1, None], "b": [None, [1, "x"]]}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", range(10)),
        ("train[:3]", range(3)),
        ("train[80%:]", range(8, 10)),
        ("train[-2:]", range(8, 10)),
        ("train[2:50]", range(2, 10)),
        ("train[10%:30%]", range(1, 3)),
    ],
)
def test_a_part_of_the_rows(split, expected, tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "a.jsonl").write_text(lines(ROWS), encoding="utf-8")
    found = read_local(tmp_path / "a.jsonl", split)["answer"]
    assert found == [str(i) for i in expected]
    told = datasets.ReadInstruction.from_spec(split).to_absolute({"train": 10})[0]
    assert list(range(10))[told.from_ : told.to] == list(expected)  # datasets means the same


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", b'{"a": 1}\n[1]', "line 2 holds a list"),
        ("a.jsonl", b'{"a": 1}\n{"a"', "could not be read as a dataset.*line 2, is not JSON"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000, "nests too deep"),
        ("a.jsonl", '{"a": "é"}'.encode("latin-1"), "not UTF-8: line 1"),
        ("a.json", b"[1, 2]", "row 0 holds a int"),
        ("a.json", b"[1, 2", "not JSON"),
        ("a.csv", "a,b\né,1".encode("latin-1"), "not UTF-8: line 2"),
        ("a.csv", b"a,b\n1,2\n3", "line 3 has 1 cells, the first one 2"),
        ("a.csv", b"a,a\n1,2", "names a column twice"),
        ("a.csv", b'a,b\n"1,2', "line 2 is not CSV"),
        ("a.csv", b"a\n" + b"x" * 200_000, "line 2 is not CSV"),
        ("a.parquet", b"PAR1 and no more", "not readable as Parquet"),
    ],
)
def test_damage_is_told_with_its_place(name, data, said, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_local(tmp_path / name)


def test_other_splits_and_missing_files(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    for split in ("test", "train[a:b]", "train+test", f"train[:{'9' * 5000}]"):
        with pytest.raises(UserError, match="no split"):
            read_local(tmp_path / "a.jsonl", split)
    with pytest.raises(UserError, match="There is no file"):
        read_local(tmp_path / "b.jsonl")
