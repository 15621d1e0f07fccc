"""What is computed once: found again by content, made anew when anything it is made of changes, never a reason to fail."""

import os

import pandas as pd
import pytest
from synthetic import make_study

from cr_interp.study import searching
from cr_interp.tables import code_of, metrics, unread
from cr_interp.tables import stored as module
from cr_interp.tables.stored import shipped_by, shipping, stored


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A file, and a function that counts how often it is asked."""
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "kept"))
    file = tmp_path / "generations.parquet"
    file.write_bytes(b"one")
    asked: list[int] = []

    def ask(arguments: object = "a", **more: object) -> pd.DataFrame:
        def make() -> pd.DataFrame:
            asked.append(1)
            return pd.DataFrame(
                {"seed": pd.array([0, pd.NA], dtype="Int64"), "value": [0.1, float("nan")], "way": ["x", None]}
            )

        return stored("table", [file], arguments, make, **more)

    return file, ask, asked


def test_the_second_time_it_is_read_and_the_same(made):
    _, ask, asked = made
    first, second = ask(), ask()
    assert len(asked) == 1
    pd.testing.assert_frame_equal(first, second, check_dtype=False)
    assert str(second["seed"].dtype) == "Int64"


def test_another_content_argument_or_code_is_another_table(made, monkeypatch):
    file, ask, asked = made
    ask()
    ask("b")
    file.write_bytes(b"two")
    ask()
    monkeypatch.setattr(module, "code_of", lambda _: "later")
    ask()
    assert len(asked) == 4


def test_the_same_content_elsewhere_is_the_same_table(made, tmp_path):
    file, ask, asked = made
    ask()
    file.unlink()
    file.write_bytes(b"one")
    ask()
    assert len(asked) == 1


def test_damage_and_no_room_cost_time_only(made, tmp_path, monkeypatch):
    file, ask, asked = made
    ask()
    for kept in (tmp_path / "kept").iterdir():
        kept.write_bytes(b"PAR1 no table")
    assert len(ask()) == 2
    monkeypatch.setenv(module.VARIABLE, str(file))  # a file where a folder should be
    assert len(ask()) == 2
    monkeypatch.setenv(module.VARIABLE, "")
    assert len(ask()) == 2
    assert len(asked) == 4


def test_a_missing_file_is_the_functions_own_affair(made):
    file, ask, asked = made
    file.unlink()
    ask()
    ask()
    assert len(asked) == 2


def test_the_oldest_go(made, tmp_path, monkeypatch):
    _, ask, _ = made
    monkeypatch.setattr(module, "MOST", 4)
    for number in range(12):
        ask(number)
    assert len(list((tmp_path / "kept").iterdir())) <= 5


def test_only_beside_bundled_examples_answers_are_believed(made, tmp_path, monkeypatch):
    file, ask, asked = made
    with monkeypatch.context() as patch:
        patch.setattr(module, "BUNDLED", tmp_path)
        with shipping():
            stored("table", [file], "a", lambda: pd.DataFrame({"value": [42]}), tmp_path)
    assert "way" in ask(home=tmp_path)
    monkeypatch.setattr(module, "BUNDLED", tmp_path)
    assert list(ask(home=tmp_path)["value"]) == [42]
    assert len(asked) == 1


def test_what_other_code_made_is_not_believed_and_is_made_again_by_one_command(made, tmp_path, monkeypatch):
    file, _, _ = made
    monkeypatch.setattr(module, "BUNDLED", tmp_path)
    monkeypatch.setenv(module.VARIABLE, "")
    asked: list[str] = []

    def ask(what: str, value: int, files: tuple = (file,)) -> int:
        def make() -> pd.DataFrame:
            asked.append(what)
            return pd.DataFrame({"value": [value]})

        return int(stored(what, files, [], make, tmp_path)["value"][0])

    codes = {"rows": "first", "other": "first"}
    monkeypatch.setattr(module, "code_of", codes.__getitem__)
    with shipping():
        assert [ask("rows", 1), ask("other", 1)] == [1, 1]
    lying = {each.name: each.read_bytes() for each in (tmp_path / module.SHIPPED).iterdir()}
    assert sorted(map(module.name_of, (tmp_path / module.SHIPPED).iterdir())) == ["other", "rows"]
    assert [ask("rows", 2), ask("other", 2)] == [1, 1]
    codes["rows"] = "second"
    assert [ask("rows", 2), ask("other", 2)] == [2, 1]
    asked.clear()
    with shipping():  # only what is out of date is computed
        assert [ask("rows", 2), ask("other", 2)] == [2, 1]
    assert asked == ["rows"]
    assert shipped_by() == codes
    now = {each.name: each.read_bytes() for each in (tmp_path / module.SHIPPED).iterdir()}
    assert [name for name in now if now[name] != lying[name]] == [name for name in now if name.startswith("rows")]
    file.write_bytes(b"two")
    with shipping():
        ask("rows", 3)
    assert [ask("rows", 4)] == [3]
    assert len(list((tmp_path / module.SHIPPED).iterdir())) == 1  # what nobody asked for went
    assert set(shipped_by()) == {"rows"}


def test_the_shipped_answers_are_those_of_todays_code():
    stale = {name for name, code in shipped_by().items() if code_of.code_of(name) != code}
    stale |= {module.name_of(file) for file in searching.BUNDLED.rglob(f"{module.SHIPPED}/*")} - set(shipped_by())
    assert not stale, (
        f"What lies beside the bundled examples was computed by other code ({', '.join(sorted(stale))}), so it is not read and "
        "pages open slowly. Run: python docs/tools/computed.py"
    )


def test_a_suites_comparisons_are_made_once(tmp_path, monkeypatch):
    from cr_interp.tables import suite

    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "kept"))
    make_study(tmp_path / "mine" / "one", seeds=(0, 1), examples=12, tables=("generations",))
    mine = suite.open_suite(tmp_path / "mine")
    first, rows = suite.comparisons(mine), suite.setting_rows(mine)
    monkeypatch.setattr(suite, "differences", lambda *_, **__: pytest.fail("computed again"))
    monkeypatch.setattr(suite, "regimes", lambda *_, **__: pytest.fail("computed again"))
    pd.testing.assert_frame_equal(suite.comparisons(mine), first, check_dtype=False)
    pd.testing.assert_frame_equal(suite.setting_rows(mine), rows, check_dtype=False)


@pytest.mark.slow
def test_what_is_shipped_beside_the_examples_is_what_is_computed(monkeypatch):
    """One setting and one study, which the machine can compute in a moment; all are made by one command."""
    from cr_interp.tables import suite
    from cr_interp.tables.suite import Suite

    mine = suite.open_suite(searching.BUNDLED / "suite")
    one = Suite(mine.path, {"rules-llama": mine.studies["rules-llama"]})
    shipped = suite.comparisons(one)
    monkeypatch.setattr(module, "BUNDLED", module.BUNDLED / "elsewhere")
    monkeypatch.setenv(module.VARIABLE, "")
    pd.testing.assert_frame_equal(suite.comparisons(one), shipped, check_dtype=False)


@pytest.mark.slow
def test_the_ablations_of_the_bundled_suite_are_shipped_as_they_are_computed(monkeypatch):
    """All rows at once are what the page asks; one arm of one setting is computed anew."""
    from cr_interp.tables import ablations, suite
    from cr_interp.tables.suite import Suite

    monkeypatch.setenv(module.VARIABLE, "")
    mine = suite.open_suite(searching.BUNDLED / "suite")
    with monkeypatch.context() as patch:
        patch.setattr(ablations, "comparisons", lambda *_, **__: pytest.fail("not shipped"))
        shipped = ablations.ablation_rows(mine)
    monkeypatch.setattr(module, "BUNDLED", module.BUNDLED / "elsewhere")
    one = Suite(mine.path, {"sokoban-self": mine.studies["sokoban-self"]})
    row = suite.comparisons(one, "sym_kl", "opd").set_index("metric").loc["harm"]
    kept = shipped.set_index(["setting", "arm"]).loc[("sokoban-self", "sym_kl")]
    assert (
        kept[["harm_minus", "harm_minus_low", "harm_minus_high"]].tolist()
        == row[["estimate", "low", "high"]].tolist()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["organism-shift", "suite/rules-llama"])
def test_what_the_command_line_prints_is_shipped_as_it_is_computed(name, monkeypatch):
    study = searching.open_study(name)
    monkeypatch.setenv(module.VARIABLE, "")
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "metrics", lambda *_, **__: pytest.fail("not shipped"))
        patch.setattr(unread, "outcome_shares", lambda *_, **__: pytest.fail("not shipped"))
        shipped = metrics.metric_table(study), unread.unread_of(study), unread.keyless(study)
    monkeypatch.setattr(module, "BUNDLED", module.BUNDLED / "elsewhere")
    pd.testing.assert_frame_equal(metrics.metric_table(study), shipped[0], check_dtype=False)
    pd.testing.assert_frame_equal(unread.unread_of(study), shipped[1], check_dtype=False)
    assert unread.keyless(study) == shipped[2]


def test_a_table_of_metrics_is_made_once_and_anew_when_one_of_its_tables_changes(tmp_path, monkeypatch):
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "kept"))
    study = make_study(tmp_path / "one", seeds=(0, 1), examples=12, tables=("generations", "drift"))
    first = metrics.metric_table(study)
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "metrics", lambda *_, **__: pytest.fail("computed again"))
        pd.testing.assert_frame_equal(metrics.metric_table(study), first, check_dtype=False)
    study.replace("drift", study.table("drift").assign(estimate=0.25))
    changed = metrics.metric_table(study)
    assert set(changed.loc[changed["metric"] == "min_cosine", "estimate"]) == {0.25}
    assert set(first.loc[first["metric"] == "min_cosine", "estimate"]) != {0.25}


def test_no_pipe_is_waited_for_and_no_link_out_of_the_study_is_followed(made, tmp_path):
    """Whose digest is asked for, is opened: what is not to be read is left to the function, which says so."""
    file, ask, asked = made
    home = tmp_path / "study"
    home.mkdir()
    ask(home=tmp_path)
    ask(home=home)  # the file is not of this study
    ask(home=home)
    assert len(asked) == 3
    file.unlink()
    os.mkfifo(file)
    ask()
    assert len(asked) == 4
