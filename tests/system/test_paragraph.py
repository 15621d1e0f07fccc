"""An error is one paragraph, whatever is quoted in it."""

import pytest

from cr_interp import cli
from cr_interp.errors import UserError, unknown
from cr_interp.system.visible import paragraph


def test_one_line_of_bounded_length():
    assert paragraph("a\n b\n\tc\x1b[2J") == "a b c\\x1b[2J"
    assert len(paragraph("x" * 10**6)) == 3000
    assert len(str(unknown("task", "y" * 10**6, ["rules:shift"]))) < 400


@pytest.mark.parametrize("said", ["y" * 50_000, "one\nand\nanother", "- " * 5000])
def test_what_the_command_line_says_is_one_paragraph(said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cr-interp", "studies"])

    def refuse():
        raise UserError(said)

    monkeypatch.setattr("cr_interp.study.searching.find_studies", refuse)
    monkeypatch.setattr(cli, "raise_on_signals", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert len(told) < 3100
