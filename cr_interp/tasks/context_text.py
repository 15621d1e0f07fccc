"""A context as one text that a person can edit, and back.

Mental model: most contexts are a system message, and then the text is that message. Any other is written in blocks, each
behind a line that says what it is; ``[prompt]`` is the user message with ``{prompt}`` where the prompt goes.

    [system]
    Reply with one word.

    [user]
    Word: warship

    [assistant]
    vehicle
"""

import re

from cr_interp.errors import UserError
from cr_interp.views import Context

_HEADING = re.compile(r"^\[(system|user|assistant|prompt)\][ \t]*$", re.MULTILINE)
_PLAIN = Context().splice


def write(context: Context | None) -> str:
    """Write the text of a context; empty for none.

    >>> write(Context.system("say it backwards"))
    'say it backwards'
    """
    if context is None:
        return ""
    messages = [(message["role"], message["content"]) for message in context.messages]
    if len(messages) == 1 and messages[0][0] == "system" and context.splice == _PLAIN:
        text = messages[0][1]
        if text.strip() and not _HEADING.search(text):
            return text
    blocks = messages + ([("prompt", context.splice)] if context.splice != _PLAIN else [])
    return "\n\n".join(f"[{name}]\n{text}" for name, text in blocks)


def read(text: str) -> Context | None:
    """Read the context that a text stands for; None if it is blank. Line breaks around a block's text do not count.

    >>> read("[user]\\nWord: warship\\n\\n[assistant]\\nvehicle").messages[1]
    {'role': 'assistant', 'content': 'vehicle'}
    """
    first, *rest = _HEADING.split(text)
    blocks = [("system", first)] if first.strip() else []
    blocks += list(zip(rest[::2], rest[1::2], strict=True))
    if not blocks:
        return None
    splices = [content.strip("\n") for name, content in blocks if name == "prompt"]
    if len(splices) > 1:
        raise UserError(
            "The context has [prompt] twice; the prompt can go to one place only. Remove one of them."
        )
    messages = tuple(
        {"role": name, "content": content.strip("\n")} for name, content in blocks if name != "prompt"
    )
    return Context(messages, *splices)
