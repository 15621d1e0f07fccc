"""What explain prints of knockout and lens: effect and control in one cell, only answers that part."""

from planted import printed as lines
from why_tables import knockout, lens

from cr_interp.report.mechanism import rich_knockout, rich_lens


def test_effect_and_control_stand_in_one_cell():
    table = knockout().assign(readout="answer")
    said = "\n".join(lines(rich_knockout(table, "mine"), 120))
    assert "context (32; 12)" in said
    assert "0.60 (0.00; –)" in said
    assert "1.00 (0.00; –)" in said
    assert "opd" not in "\n".join(lines(rich_knockout(table.assign(group="kept"), "mine"), 120))


def test_lens_says_from_where_on_a_token_is_ahead():
    said = [line.split() for line in lines(rich_lens(lens(), "mine"), 120)]
    assert ["opd", "harmed", "with_context", "wrong", "1", "−4.00", "20"] in said
