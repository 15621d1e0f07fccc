"""Is a phrase in a text, as a word of its own? The same in every script, and in any text at a cost that is bounded.

Mental model. Two texts are first *folded*, so that what reads alike is alike: one form of accents (NFC), no case, no
full-width letters, one kind of apostrophe, minus and space, no thousands separators. Then a phrase counts where it begins
and ends at a *border*. A border is any place but these:

- between two letters, digits or marks of scripts that put spaces between words (``cat`` in ``concatenate``);
- inside a number: two digits, ``4.5``, ``4,5``, ``1/4``, ``.5`` and the sign of ``-4`` (but ``4.0`` is 4);
- inside a character: in front of a combining mark.

Scripts in which words stand together (Chinese, kana, Thai, Khmer, …), and hangul, to which particles are glued, have a
border between any two letters. They are those that may be broken there at the end of a line (Unicode Annex 14, classes ID,
CJ, NS, SA and the hangul ones). So a short word is also found inside a longer one there; only a dictionary could tell.
"""

import unicodedata
from functools import lru_cache

import regex

WORD = regex.compile(r"[\p{Alphabetic}\p{N}\p{M}\p{Pc}]")
#: Continues the character in front of it: marks, joiners, the colour of a hand.
CONTINUES = regex.compile(r"[\p{M}\p{Emoji_Modifier}\u200c\u200d]")
UNSPACED = regex.compile(r"[\p{lb=ID}\p{lb=CJ}\p{lb=NS}\p{lb=SA}\p{lb=H2}\p{lb=H3}\p{lb=JL}\p{lb=JV}\p{lb=JT}]")

#: Normalising is quadratic in a run of marks; Unicode's "stream-safe" texts have at most 30 (Annex 15, section 13).
MARKS = regex.compile(r"(\p{M}{30})\p{M}+")
GROUPED = regex.compile(r"(?<![\d.,])\d{1,3}(?:[,'\u00a0\u2009\u202f]\d{3})+(?!\d)")
NOT_DIGIT = regex.compile(r"\D")
SPACES = regex.compile(r"\s+")
#: Underscores and asterisks around a word are markdown; inside one (``snake_case``) they belong to it.
EMPHASIS = regex.compile(r"(?<![^\W_])_+|_+(?![^\W_])")

DECIMALS = regex.compile(r"[.,/٫٬]\d")
NO_DECIMALS = regex.compile(r"\.0+(?![.,]?\d)")
#: What may stand in front of a sign or of a leading point; anything else makes a minus a dash and a point a full stop.
OPENS = frozenset(" ([{<>=:;,*/^$|~≈\"'")
FINAL = " \t\r\n.。．｡!！?？,，、;；:：।۔؟،"


def _widths() -> dict[int, str]:
    """Map full-width and half-width characters → the usual ones."""
    forms = [*range(0xFF00, 0xFFF0), 0x3000]
    kinds = {code: unicodedata.decomposition(chr(code)).partition(" ")[0] for code in forms}
    return {
        code: unicodedata.normalize("NFKC", chr(code)) for code in forms if kinds[code] in ("<wide>", "<narrow>")
    }


def _alike() -> dict[int, str]:
    """Map characters that read alike, and those that cannot be seen (soft hyphens, marks of direction, variants), to one form."""
    alike = {**_widths(), **dict.fromkeys(map(ord, "‘’ʼ"), "'"), **dict.fromkeys(map(ord, "“”"), '"')}
    alike |= dict.fromkeys(map(ord, "−‐‑"), "-")
    unseen = [0xAD, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFE0E, 0xFE0F, 0xFEFF]
    return alike | dict.fromkeys(unseen, "")


ALIKE = _alike()


def unified(text: str) -> str:
    """Return one form for texts that read alike; casing and spaces are kept.

    >>> unified("cafe\\u0301 Ｂ") == "caf\\u00e9 B"
    True
    """
    return unicodedata.normalize("NFC", MARKS.sub(r"\1", text).translate(ALIKE))


def folded(text: str) -> str:
    """Return :func:`unified`, in one case, with single spaces and without thousands separators.

    >>> folded("  The  STRASSE\\u00a0costs 1,024 ")
    'the strasse costs 1024'
    """
    lower = unicodedata.normalize("NFC", unified(text).casefold())
    plain = GROUPED.sub(lambda found: NOT_DIGIT.sub("", found.group()), lower)
    return SPACES.sub(" ", plain).strip()


def bare(text: str) -> str:
    """Return :func:`folded` without the punctuation that ends a sentence; a text of nothing else is kept.

    >>> bare("Paris. "), bare("?")
    ('paris', '?')
    """
    whole = folded(text)
    return whole.rstrip(FINAL) or whole


def mentions(text: str, phrase: str) -> bool:
    """Tell whether the phrase stands in the text as a word or words of its own. An empty phrase never does.

    The work is at most the text's length times the phrase's.

    >>> mentions("The answer is 4.", "4"), mentions("It is 4.5", "4"), mentions("答案是北京。", "北京")
    (True, False, True)
    """
    wanted, told = bare(phrase), folded(text)
    return stands_in(told if "_" in wanted else EMPHASIS.sub(" ", told), wanted)


def stands_in(text: str, phrase: str) -> bool:
    """Apply :func:`mentions` to texts that are :func:`folded` already."""
    if not phrase:
        return False
    signed = phrase[0] == "-" and phrase[1:2].isdecimal()
    at = text.find(phrase)
    while at >= 0:
        # Behind something a minus is no sign: 10-4 does not tell of -4.
        difference = signed and at > 0 and (text[at - 1] == ")" or _is(WORD, text[at - 1]))
        if not difference and is_border(text, at) and is_border(text, at + len(phrase)):
            return True
        at += 1
        while not is_border(text, at):
            at += 1
        at = text.find(phrase, at)
    return False


def is_border(text: str, at: int) -> bool:
    """Tell whether a word can begin or end in front of the character at this place. ``text`` is :func:`folded`."""
    if at == 0 or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if _is(CONTINUES, after) or before == "\u200d":
        return False
    if _is(WORD, before) and _is(WORD, after):
        return not (_is_numeral(before) and _is_numeral(after)) and (
            _is(UNSPACED, before) or _is(UNSPACED, after)
        )
    return not _inside_number(text, at)


def _inside_number(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if before.isdecimal() and DECIMALS.match(text, at):
        return NO_DECIMALS.match(text, at) is None
    if not after.isdecimal():
        return False
    opened = at == 1 or text[at - 2] in OPENS
    if before == "-":
        return opened
    return before in ".,/٫٬" and (text[at - 2 : at - 1].isdecimal() or (before == "." and opened))


@lru_cache(maxsize=4096)
def _is(kind: regex.Pattern, character: str) -> bool:
    return kind.match(character) is not None


@lru_cache(maxsize=4096)
def _is_numeral(character: str) -> bool:
    """Tell whether a character is a digit, or a letter that Chinese writes numbers with: 十 in 二十 is another number."""
    return unicodedata.numeric(character, None) is not None
