"""A suite as text: it fits the terminal, no name breaks a table, and JSON is what anybody recomputes."""

import json
import subprocess
import sys

import pytest
from planted import PLANTED, plant, planted_suite, printed, random_suite, run, twelve_suite

from cr_interp.report.suite import markdown_suite, rich_suite, suite_json
from cr_interp.tables import suite


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> suite.Suite:
    return planted_suite(tmp_path_factory.mktemp("planted") / "mine")


@pytest.fixture(scope="module")
def random(tmp_path_factory) -> suite.Suite:
    return random_suite(tmp_path_factory.mktemp("random") / "mine")


@pytest.fixture(scope="module")
def twelve(tmp_path_factory) -> suite.Suite:
    return twelve_suite(tmp_path_factory.mktemp("twelve") / "mine")


@pytest.mark.slow
def test_the_terminal_s_table_fits_without_wrapping(twelve):
    for width in (100, 80):
        lines = printed(rich_suite(twelve), width)
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
        starts = [line.split()[0] for line in lines if line.split()]
        for setting in suite.SETTINGS:
            assert starts.count(setting) == 2, f"{setting} in the rows and in the differences"
        assert starts.count("nca") == 12 + 1, "a row each, and the title of the differences"
    text = "\n".join(lines)
    assert "Unfinished" not in text
    assert "seeds: 2" in text
    assert "*−50.0" in text
    claim = next(line for line in lines if line.startswith("harm lower under nca, across interval excludes 0 "))
    assert claim.split()[-3:] == ["12", "of", "12"]


@pytest.mark.slow
def test_markdown_is_a_row_a_setting_and_all_rows_have_the_same_cells(twelve, planted):
    text = markdown_suite(planted)
    first = text.split("\n\n")[0].splitlines()
    assert len(first) == 2 + 4
    assert "| `rules-llama` | B / A / open | 0.0 / 100.0 / 100.0 | 100.0 / 50.0 / 100.0 |" in first[2]
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
    assert "| harm lower under nca, across interval excludes 0 | 1 of 4 | rules-llama |" in text
    assert "3 of 4 | all but sokoban-cross |" in text
    assert "| harm lower under nca, across interval excludes 0 | 12 of 12 | all |" in markdown_suite(twelve)
    assert "−0.0" not in text


def test_names_from_disk_cannot_break_a_table(tmp_path):
    plant(tmp_path / "a|b [red]c", PLANTED["rules-llama"])
    odd = suite.open_suite(tmp_path)
    assert "`a\\|b [red]c`" in markdown_suite(odd)
    assert "a|b [red]c" in "\n".join(printed(rich_suite(odd), 100))


@pytest.mark.slow
def test_json_is_what_anybody_recomputes_from_generations(random):
    found = json.loads(run("table", random.path, "--json").stdout)
    assert {tuple(row) for row in found} == {
        ("setting", "arm", "seed", "metric", "estimate", "low", "high", "n", "interval")
    }
    table = {(r["setting"], r["arm"], r["seed"], r["metric"]): r for r in found}
    checked = 0
    for setting, study in random.studies.items():
        rows = study.table("generations")
        rows = rows[rows["control"].isin(["none", "exact"])]
        wide = rows.assign(right=rows["outcome"] == "right").pivot(
            index=["arm", "seed", "example_id"], columns="view", values="right"
        )
        for (arm, seed), part in wide.groupby(["arm", "seed"]):
            x, c = part["no_context"].astype(bool), part["with_context"].astype(bool)
            assert table[setting, arm, seed, "acc_x"]["estimate"] == pytest.approx(x.mean())
            assert table[setting, arm, seed, "acc_xc"]["estimate"] == pytest.approx(c.mean())
            assert table[setting, arm, seed, "both_correct"]["estimate"] == pytest.approx((x & c).mean())
            harm = table[setting, arm, seed, "harm"]
            assert harm["n"] == x.sum()
            assert harm["estimate"] == (pytest.approx((x & ~c).sum() / x.sum()) if x.any() else None)
            checked += 1
        assert (setting, "opd", None, "harm") in table
    assert checked == 3 * 3 * 2


def test_missing_numbers_are_null(planted):
    rows = suite_json(suite.suite_table(planted))
    harm = next(row for row in rows if row["arm"] == "base" and row["metric"] == "harm")
    assert (harm["estimate"], harm["n"], harm["setting"]) == (None, 0, "rules-llama")
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


@pytest.mark.slow
def test_the_command_line_knows_a_suite_by_folder_and_by_name(planted, tmp_path):
    where = {"cwd": tmp_path, "CR_INTERP_STUDIES": str(planted.path.parent)}
    by_name, by_folder = run("table", "mine", **where), run("table", planted.path)
    assert by_name.stdout == by_folder.stdout
    assert "harm lower under nca" in by_name.stdout
    assert max(map(len, by_name.stdout.splitlines())) <= 100
    assert run("table", "mine", "--markdown", **where).stdout.startswith("| setting |")
    assert "mine/rules-llama" in run("studies", **where).stdout
    assert "--json" in run("table", "mine", "--seeds", code=2, **where).stderr
    one = run("table", "mine/rules-llama", "--seeds", **where).stdout
    assert "seed 1" in one
    assert "Did you mean 'mine/rules-llama'" in run("table", "mine/rules-lama", code=2, **where).stderr
    assert "control 'exat'" in run("table", "mine", "--control", "exat", code=2, **where).stderr


@pytest.mark.slow
def test_needs_no_torch():
    code = "import sys, cr_interp.tables.suite, cr_interp.report.suite; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
