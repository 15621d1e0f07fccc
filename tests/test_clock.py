"""Prompts do not change at midnight."""

import pytest
from chatty import CHATML, chatty

from cr_interp.clock import TODAY, date_of
from cr_interp.errors import UserError
from cr_interp.models.fingerprints import tokenizer_fingerprint
from cr_interp.models.loading import Loaded
from cr_interp.models.templates import fix_template
from cr_interp.views import render

LLAMA = "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% else %}{% set day = '?' %}{% endif %}"
DATED = LLAMA + "{{ 'Today: ' + day + strftime_now(' (%A, %-d/%m/%y, day %j, %H:%M, 100%%)') + '\n' }}" + CHATML


def first_line(tokenizer):
    return tokenizer.decode(render(tokenizer, "hi")).split("\n")[0]


def dated(day=None):
    tokenizer = chatty(DATED)
    fix_template(Loaded("m", None, tokenizer), {} if day is None else {"today": day})
    return tokenizer


def test_the_date_is_fixed_whatever_the_clock_says():
    assert first_line(dated()) == "Today: 26 Jul 2024 (Friday, 26/07/24, day 208, 00:00, 100%)"
    assert date_of(dated()) == TODAY
    assert date_of(chatty()) is None


def test_another_date_is_written_into_the_template():
    tokenizer = dated("2026-01-05")
    assert first_line(tokenizer) == "Today: 05 Jan 2026 (Monday, 5/01/26, day 005, 00:00, 100%)"
    assert date_of(tokenizer) == "2026-01-05"
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(dated())
    fix_template(Loaded("m", None, tokenizer), {"today": "2025-12-24", "enable_thinking": False})
    assert date_of(tokenizer) == "2025-12-24"
    assert first_line(tokenizer).startswith("Today: 24 Dec 2025")
    assert tokenizer.chat_template.count("today:") == 1
    before = tokenizer.chat_template
    fix_template(Loaded("m", None, tokenizer), {"today": "2025-12-24", "enable_thinking": False})
    assert tokenizer.chat_template == before


def test_a_saved_tokenizer_keeps_its_date(tmp_path):
    from transformers import AutoTokenizer

    dated("2026-01-05").save_pretrained(tmp_path)
    assert first_line(AutoTokenizer.from_pretrained(tmp_path)).startswith("Today: 05 Jan 2026")


def test_what_is_no_date_or_changes_nothing_is_refused():
    with pytest.raises(UserError, match=r"'tomorrow' is not a day such as 2026-01-31"):
        dated("tomorrow")
    with pytest.raises(UserError, match="does not ask for the date"):
        fix_template(Loaded("m", None, chatty()), {"today": "2026-01-05"})
