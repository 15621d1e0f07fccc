"""Fix the variables of a chat template, such as Qwen3's ``enable_thinking``."""

import json
import re

from cr_interp.errors import UserError
from cr_interp.models.loading import Loaded


def fix_template(loaded: Loaded, variables: dict[str, bool | int | str]) -> None:
    """Put ``{% set name = value %}`` in front of the chat template.

    So a checkpoint that is saved says itself how it was prompted, its fingerprint knows, and whoever loads it later need
    not be told. Saved checkpoints that have it already stay as they are.
    """
    template = loaded.tokenizer.chat_template
    if not variables or not isinstance(template, str):
        return
    for name in variables:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise UserError(f"'{name}' under template is not the name of a variable, such as enable_thinking.")
    head = "".join(f"{{%- set {name} = {json.dumps(value)} %}}" for name, value in variables.items())
    if not template.startswith(head):
        loaded.tokenizer.chat_template = head + template
