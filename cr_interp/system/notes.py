"""Say something beside the results: a sentence on standard error, so that what is printed stays what was asked for."""

import sys

from cr_interp.system.visible import visible


def say(text: str) -> None:
    """Print one note. It is for what somebody should know and need not act on; what stops a command is a ``UserError``."""
    print(f"note: {visible(text)}", file=sys.stderr, flush=True)
