"""Docstrings name things as reStructuredText does (``:func:`~cr_interp.suite.counts```); the site's are Markdown. This griffe
extension shows the name."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`(~?)([^`]+)`")


def readable(text: str) -> str:
    return ROLE.sub(lambda found: f"`{found[2].rpartition('.')[2] if found[1] else found[2]}`", text)


class Roles(griffe.Extension):
    """Rewrite the roles of every docstring once it has been collected."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = readable(obj.docstring.value)
