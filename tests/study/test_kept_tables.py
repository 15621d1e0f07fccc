"""A table is read once while its file stays the same, and what a caller does to it stays with the caller."""

import pandas as pd
import pytest

from cr_interp.study import reading
from cr_interp.study.study import Study


@pytest.fixture
def study(tmp_path) -> Study:
    reading._kept.clear()
    made = Study.create(tmp_path / "s", {"task": "sentiment"})
    made.replace("notes", pd.DataFrame({"arm": ["a", "b"], "estimate": [1.0, 2.0]}))
    return made


def test_it_is_read_once(study, monkeypatch):
    first = study.table("notes")
    monkeypatch.setattr(reading.pd, "read_parquet", lambda *a, **k: pytest.fail("read again"))
    assert study.table("notes").equals(first)


def test_a_change_stays_with_the_caller(study):
    first = study.table("notes")
    first["estimate"] = 0.0
    first.loc[0, "arm"] = "z"
    first.drop(columns="arm", inplace=True)
    assert study.table("notes").to_dict("list") == {"arm": ["a", "b"], "estimate": [1.0, 2.0]}


def test_a_new_file_is_read_anew(study):
    study.table("notes")
    study.replace("notes", pd.DataFrame({"arm": ["a", "b"], "estimate": [1.0, 3.0]}))
    assert study.table("notes")["estimate"].tolist() == [1.0, 3.0]


def test_what_is_larger_than_all_that_is_kept_is_not(study, monkeypatch):
    monkeypatch.setattr(reading, "MOST_KEPT", 8)
    assert len(study.table("notes")) == 2
    assert not reading._kept


def test_the_one_asked_for_least_recently_goes_first(study, monkeypatch):
    for name in ("one", "two", "three"):
        study.replace(name, study.table("notes"))
    size = int(study.table("notes").memory_usage().sum())
    monkeypatch.setattr(reading, "MOST_KEPT", 2 * size)
    for name in ("one", "two", "one", "three"):
        study.table(name)
    assert [key[1] for key in reading._kept] == ["one", "three"]
