"""Names that become folders, columns and options: one rule for studies, arms, tasks, settings, checked before anything runs.

Mental model. A name is written by people, put into paths (``runs/ARM-s0``), lists on the command line (``--arms a,b``), pairs
(``ARM=MODEL``) and pages. So it may be anything that can be read in one line and holds nothing that those take for their own.
What came from elsewhere under another name is still shown (``shown.py``).
"""

import os
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from cr_interp.errors import UserError
from cr_interp.system.visible import visible

#: In bytes: a folder's name may have 255, and ``-s4294967295`` or a file's ending comes after.
LONGEST = 120
#: Separators of paths, of lists and of pairs.
SEPARATORS = "/\\,="


def fault(name: str) -> str | None:
    """Say what is wrong with a name, as the end of a sentence; None if nothing is.

    >>> fault("nca_beta0.1"), fault("a,b")
    (None, "has a ',' in it")
    """
    if not name:
        return "is empty"
    if any(hidden(character) for character in name):
        return "has characters in it that cannot be seen"
    for separator in SEPARATORS:
        if separator in name:
            return f"has a '{separator}' in it"
    if name != name.strip():
        return "begins or ends with a space"
    if name[0] in ".-":
        return f"begins with '{name[0]}'"
    if len(name.encode()) > LONGEST:
        return f"has {len(name.encode())} bytes, more than {LONGEST}"
    return None


def hidden(character: str) -> bool:
    """Tell whether a character is not seen as itself: a control character, a mark of direction, half a surrogate pair, a
    line's end.
    """
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def check_name(kind: str, name: Any) -> str:
    """Check a name and return it. Raises :class:`UserError`, which says what is wrong with it."""
    wrong = fault(name) if isinstance(name, str) else f"is no text but {type(name).__name__}"
    if wrong:
        raise UserError(
            f"{visible(repr(name))[:160]} cannot be the name of {kind}: it {wrong}. Take up to {LONGEST} letters, digits, "
            f"spaces and signs, without any of {' '.join(SEPARATORS)}, and not beginning with . or -."
        )
    return str(name)


def check_folder(path: Path) -> Path:
    """Check the name of a folder to write into, and return the folder. Unlike other names it may have separators."""
    for part in path.parts[-1:]:
        if any(hidden(character) for character in part):
            raise UserError(
                f"{visible(repr(str(path)))} has characters in it that cannot be seen. Give another folder."
            )
        if len(os.fsencode(part)) > 255:
            raise UserError(
                f"The folder's name {part[:40]}… has {len(os.fsencode(part))} bytes; 255 are the most."
            )
    return path


# -- for configurations --------------------------------------------------------------------------------------


def _a_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"a name is a text, but YAML reads this as {type(value).__name__}; put it in quotes")
    return value


def _a_name(value: str) -> str:
    if wrong := fault(value):
        raise ValueError(f"a name that {wrong} cannot be used")
    return value


#: The validated type of a name.
Name = Annotated[str, AfterValidator(_a_name), BeforeValidator(_a_text)]
#: What random numbers start from, as torch and numpy take it.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that has something twice, since each has a folder of its own. A validator."""
    if len(set(values)) < len(values):
        raise ValueError("each may be given once")
    return values
