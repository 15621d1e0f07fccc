"""Lists that are typed as one word: ``opd,nca`` and ``0,1,2``."""

from cr_interp.errors import UserError


def listed(text: str | None) -> list[str]:
    """Split a list at its commas; nothing, and empty parts, give nothing.

    >>> listed("opd, nca,")
    ['opd', 'nca']
    """
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def whole_numbers(text: str | None, option: str, example: str = "0,1,2") -> list[int]:
    """Read a list of whole numbers; raises :class:`UserError`, naming the option, for anything else.

    >>> whole_numbers("0,2", "--seeds")
    [0, 2]
    """
    if not all(part.isdecimal() and len(part) < 16 for part in listed(text)):
        raise UserError(f"{option} is a list of whole numbers, such as {example}; found '{str(text)[:80]}'.")
    return [int(part) for part in listed(text)]
