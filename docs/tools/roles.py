"""Docstrings name things as reStructuredText does (``:func:`~cr_interp.tables.suite.counts```) and hold examples for doctest.
The site's texts are Markdown, so this griffe extension shows the name, and an example as code."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`(~?)([^`]+)`")


EXAMPLE = re.compile(r"^(>>> .*?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def readable(text: str) -> str:
    named = ROLE.sub(lambda found: f"`{found[2].rpartition('.')[2] if found[1] else found[2]}`", text)
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[1]}\n```", named)


class Roles(griffe.Extension):
    """Rewrite the roles of every docstring once it has been collected."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = readable(obj.docstring.value)
