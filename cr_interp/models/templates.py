"""Fix the variables of a chat template, such as Qwen3's ``enable_thinking``, and the day that it is written on."""

import json
import re

from cr_interp.clock import VARIABLE, fixed_clock, reads_clock, without_clock
from cr_interp.errors import UserError
from cr_interp.models.loading import Loaded
from cr_interp.views import refuse_taken


def fix_template(loaded: Loaded, variables: dict[str, bool | int | str]) -> None:
    """Put ``{% set name = value %}`` in front of the chat template.

    So a checkpoint that is saved says itself how it was prompted, its fingerprint knows, and whoever loads it later need
    not be told. Saved checkpoints that have it already stay as they are. The variable ``today`` is the date of a template
    that reads the clock (``clock.py``).
    """
    template = loaded.tokenizer.chat_template
    if not variables or not isinstance(template, str):
        return
    for name in variables:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise UserError(f"'{name}' under template is not the name of a variable, such as enable_thinking.")
    refuse_taken(variables)
    variables = dict(variables)
    day = variables.pop(VARIABLE, None)
    if day is not None:
        if not reads_clock(loaded.tokenizer):
            raise UserError(
                f"The chat template of {loaded.name} does not ask for the date, so today={day} would change nothing. "
                f"Leave it out."
            )
        head = fixed_clock(str(day))
        if head not in template:
            loaded.tokenizer.chat_template = template = head + without_clock(template)
    if not variables:
        return
    head = "".join(f"{{%- set {name} = {json.dumps(value)} %}}" for name, value in variables.items())
    if head not in template:
        loaded.tokenizer.chat_template = head + template
