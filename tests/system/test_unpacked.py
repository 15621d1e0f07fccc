"""How much memory a Parquet file takes is known before it is read, whatever it holds."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cr_interp.errors import UserError
from cr_interp.study.reading import read_table
from cr_interp.system import unpacked as module
from cr_interp.system.unpacked import frame_of, memory, unpacked
from cr_interp.tasks.yours.local_rows import read_local


@pytest.fixture
def bomb(tmp_path):
    """Nine kilobytes that stand for sixty gigabytes: one text, three million times."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000, pa.int32()), pa.array(["x" * 20_000]))
    file = tmp_path / "generations.parquet"
    pq.write_table(pa.table({"prompt": texts}), file)
    assert file.stat().st_size < 20_000
    return file


def test_a_bomb_is_refused_wherever_tables_are_read(bomb):
    for read in (lambda: read_table(bomb, "generations", "x"), lambda: read_local(bomb)):
        with pytest.raises(UserError, match="unpacked"):
            read()


@pytest.mark.parametrize(
    ("column", "bytes_of_a_row"),
    [
        (pa.array([1] * 9000, pa.int64()), 8),
        (pa.array(["a" * 500] * 9000), 500),
        (pa.array(["a" * 500] * 9000).dictionary_encode(), 500),
        (pa.array([b"a" * 500] * 9000), 500),
        (pa.array([[{"role": "user", "content": "a" * 500}]] * 9000), 500),
        (pa.array([{"a": {"b": "a" * 500}}] * 9000), 500),
        (pa.array([None, "a" * 1000] * 4500), 500),
        (pa.array([datetime.date(2020, 1, 1)] * 9000), 4),
        (pa.array([None] * 9000), 0),
    ],
)
def test_as_much_as_it_is(column, bytes_of_a_row, tmp_path, monkeypatch):
    pq.write_table(pa.table({"a": column, "b": column}), tmp_path / "a.parquet", row_group_size=2000)
    monkeypatch.setattr(module, "UNASKED", 0)
    found = unpacked(tmp_path / "a.parquet", 1 << 40)
    assert 2 * 9000 * bytes_of_a_row <= found <= 2 * 9000 * (bytes_of_a_row * 1.2 + 60)


def test_counting_ends_where_it_is_too_much(bomb, tmp_path):
    assert 10**9 < unpacked(bomb, 10**9) < 3 * 10**9
    nested = pa.array([[{"a": "y" * 100_000}]] * 300)
    pq.write_table(pa.table({"a": nested}), tmp_path / "a.parquet")
    assert unpacked(tmp_path / "a.parquet", 10**6) > 10**6


def test_what_is_small_is_not_read_to_be_asked(tmp_path, monkeypatch):
    pq.write_table(pa.table({"a": ["x", "y"], "b": [1, 2]}), tmp_path / "a.parquet")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    assert unpacked(tmp_path / "a.parquet", 1 << 40) < 10_000
    assert memory() > 1 << 20


@pytest.mark.parametrize("threaded", [0, 1 << 40])
def test_a_frame_is_the_same_by_one_thread_or_several(tmp_path, monkeypatch, threaded):
    monkeypatch.setattr(module, "THREADED", threaded)
    columns = {"arm": ["opd", "nca", None], "seed": [0, 1, 2], "estimate": [0.5, None, -1.0]}
    pq.write_table(pa.table(columns), tmp_path / "drift.parquet")
    read = frame_of(tmp_path / "drift.parquet")
    assert list(read["arm"][:2]) == ["opd", "nca"]
    assert read["arm"].isna().sum() == 1
    assert list(read["seed"]) == [0, 1, 2]
    assert list(read["estimate"].dropna()) == [0.5, -1.0]
