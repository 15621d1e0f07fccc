"""Names are shown as they are, in every table, bar and error: nothing is markup, nothing acts on the terminal."""

import io
import os
import shutil

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import run
from rich.console import Console
from rich.text import Text
from synthetic import make_study

from cr_interp.progress import Words, bars, tokens_progress, tracked
from cr_interp.report.study import markdown_table, plain_table, rich_table
from cr_interp.system.shown import PlainTable, console
from cr_interp.system.visible import ACTING, code, in_markdown, one_line, visible

#: What a folder or an arm may be called: markup for rich, for Markdown, for a terminal, and what cannot be encoded.
NAMES = ["opd[a]", "opd[/b]", "[red]x[/red]", "[", "\\[a]", ":smile:", "a|b", "`a`", "<b>", "\x1b[2J\x1b]0;title\x07", "a\rb",
         "a\nb", "\u202eabc", "\udcff", "\x9b31m", "北京", "{0}", "%s"]  # fmt: skip


def printed(renderable, made=None):
    target = made or console(file=io.StringIO(), width=200)
    target.print(renderable)
    return target.file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_its_cells_as_they_are(name):
    table = PlainTable(f"title {name}", f"caption {name}")
    table.add_column(f"head {name}")
    table.add_row(name)
    table.add_row(Text("styled", style="red"))
    for made in (None, Console(file=io.StringIO(), width=200)):  # also where somebody else's console prints it
        text = printed(table, made)
        assert not ACTING.search(text)
        for part in visible(name).split("\n"):
            assert text.count(part) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_text_is_printed_as_it_is_whatever_it_is_in(name):
    for renderable, expected in (
        (name, name),
        (Text(name), Text(name).plain),
    ):  # rich itself leaves a bell out of a Text
        text = printed(renderable)
        assert not ACTING.search(text)
        assert visible(expected) in text


@pytest.mark.parametrize("name", NAMES)
def test_bars_show_their_names(name, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("cr_interp.progress.console", lambda: console(file=shown, width=200))
    assert list(tracked([1, 2], name)) == [1, 2]
    with tokens_progress() as bar:
        bar(name)(1, 2)
    with bars(Words(), Words("{task.fields[note]}")) as progress:
        progress.add_task("all", note=name)
    assert not ACTING.search(shown.getvalue())
    assert shown.getvalue().count(visible(name).split("\n")[0]) >= 3


@given(st.text(alphabet=st.characters(), max_size=30))
def test_what_is_visible_can_be_printed_anywhere(text):
    assert not ACTING.search(visible(text))
    assert visible(visible(text)) == visible(text)
    visible(text).encode("utf-8")
    assert "\n" not in one_line(text)
    for cell in (in_markdown(text), code(text)):
        assert "\n" not in cell
        assert "|" not in cell.replace("\\|", "")


def test_styles_are_kept():
    text = printed(
        Text("x", style="red"), console(file=io.StringIO(), force_terminal=True, color_system="standard")
    )
    assert "\x1b[31mx" in text


def test_tables_of_a_study_keep_arms_apart_whose_names_are_markup():
    rows = pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": pd.NA,
                "metric": "acc_x",
                "estimate": 0.5,
                "low": 0.4,
                "high": 0.6,
                "n": 9,
                "interval": "within",
            }
            for arm in ("opd[a]", "opd[/b]", "x|y")
        ]
    )
    text = printed(rich_table(rows, "a study[/]"))
    assert all(name in text for name in ("opd[a]", "opd[/b]", "x|y", "a study[/]"))
    lines = [line for line in markdown_table(rows).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}
    assert "opd[/b]" in printed(plain_table(rows, "t"))


@pytest.mark.slow
def test_odd_studies_do_not_take_the_others_away(tmp_path):
    good = make_study(tmp_path / "good")
    for name in ("run[", "\x1b[31mred", "line\nbreak", "[bold]x"):
        shutil.copytree(good.path, tmp_path / name / "x]")
        shutil.copytree(good.path, tmp_path / f"one {name}")
    os.mkdir(os.fsencode(tmp_path) + b"/undecodable-\xff")
    shutil.copy(good.path / "manifest.json", os.fsencode(tmp_path) + b"/undecodable-\xff/manifest.json")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_bytes(b"\xff\xfe{")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a file").write_text("x")
    listed = run("studies", cwd=tmp_path, CR_INTERP_STUDIES=str(tmp_path), COLUMNS="40").stdout
    assert not ACTING.search(listed)
    named = [line.split("  ")[0].strip() for line in listed.splitlines()]
    for name in (
        "good",
        "run[/x]",
        "\\x1b[31mred/x]",
        "one line\\nbreak",
        "one [bold]x",
        "undecodable-\\udcff",
        "broken",
    ):
        assert name in named


def test_errors_are_printed_without_acting_characters(tmp_path):
    for words_ in (
        ["table", "\x1b[2J[/b]"],
        ["table", "\udcff"],
        ["compare", "\x1b=x", "--out", "a", "--task", "[/b]"],
    ):
        done = run(*(os.fsencode(word) if "\udcff" in word else word for word in words_), code=2, cwd=tmp_path)
        assert not ACTING.search(done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_terminal_without_unicode_is_no_reason_to_stop(tmp_path):
    make_study(tmp_path / "s")
    done = run("table", tmp_path / "s", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert "acc_x" in done.stdout
