"""Makes one context as long as another, for the control "irrelevant text of equal length".

Mental model: start from a context that is too short and append neutral words to its system message, as if one at a
time, until a token counter says stop. Nothing here knows a tokenizer: the counter is a function of the whole
context, so merges across word boundaries and the chat template's own tokens are always counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cr_interp.errors import UserError
from cr_interp.tasks.base import CountTokens
from cr_interp.views import Context

#: How many tokens short an "equally long" context may be: some tokenizers have no words of one token.
TOLERANCE = 2

TEXT = """
There is a river in the valley and a road on each side of it. The road to the left goes by a mill, the road to
the right goes by a row of old stones. In the middle of the valley there is a bridge with two arches. Most
days a few people walk over the bridge, and at noon the shadow of the tower falls on the water. Further up the
hill there is a gate, then a field, then a second gate, and behind it a path that turns to the east. The path
is about as wide as a table. At its end one can see the lake, the line of the hills and some of the roofs of
the next village, where the path meets the main road again.
"""

#: Neutral words about nothing in particular; the many short ones let a count come out exactly.
FILLER = tuple(TEXT.split())


def equal_length(
    start: Context, like_tokens: int, filler_words: Sequence[str], count_tokens: CountTokens
) -> Context:
    """Return ``start`` with filler appended to its system message until it counts ``like_tokens`` tokens.

    Words are taken in order, again from the first after the last; a word that would overshoot is passed over for the next
    that fits. The result is never longer than ``like_tokens`` and at most TOLERANCE shorter; if that cannot be reached,
    :class:`UserError` says what was found.
    """
    if not start.messages or start.messages[0]["role"] != "system":
        raise UserError("Filler is appended to a system message, but the context to lengthen has none in front.")
    context, length = start, count_tokens(start)
    if length > like_tokens:
        raise UserError(
            f"The context to lengthen already has {length} tokens; expected at most {like_tokens}. "
            f"Start from a shorter one."
        )
    turn, passed_over, each = 0, 0, 4
    while length < like_tokens and passed_over < len(filler_words):
        # Far from the end every word fits, so many are appended at once: counting is what takes time.
        words = max(1, 0 if passed_over else (like_tokens - length) // each)
        longer = _append(context, *(filler_words[(turn + k) % len(filler_words)] for k in range(words)))
        found = count_tokens(longer)
        if words > 1 and not length + words <= found <= like_tokens:
            each *= 4
            continue
        turn += words
        if length < found <= like_tokens:
            each = -(-(found - length) // words)
            context, length, passed_over = longer, found, 0
        else:
            passed_over += 1  # a full round of these means that no word fits any more
    if like_tokens - length > TOLERANCE:
        raise UserError(
            f"No filler word brings the context closer than {length} tokens; expected {like_tokens - TOLERANCE} "
            f"to {like_tokens}. Give filler words that are shorter in this tokenizer."
        )
    return context


def irrelevant_in_place(
    place: Callable[[str], Context], exact: Context, count_tokens: CountTokens
) -> Context | None:
    """Return filler where ``place`` puts a text, as long as the exact context; None if that is shorter than a single word."""
    wanted, start = count_tokens(exact), Context.system(FILLER[0])

    def in_place(filler: Context) -> Context:
        return place(filler.messages[0]["content"])

    def count_in_place(filler: Context) -> int:
        return count_tokens(in_place(filler))

    if count_in_place(start) > wanted:
        return None
    return in_place(equal_length(start, wanted, FILLER[1:], count_in_place))


def _append(context: Context, *words: str) -> Context:
    system, *rest = context.messages
    longer = {"role": "system", "content": " ".join([system["content"], *words])}
    return replace(context, messages=(longer, *rest))
