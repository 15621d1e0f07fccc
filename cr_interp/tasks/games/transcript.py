"""An episode's responses as one text that people can read, and an episode played again by such a text."""

import re
from collections.abc import Sequence

from cr_interp.tasks.base import Episode, Outcome

#: Between two turns; the first one has none before it.
RULE = "\n\n--- turn {} ---\n\n"


def transcript(texts: Sequence[str]) -> str:
    return "".join((RULE.format(i) if i > 1 else "") + text for i, text in enumerate(texts, start=1))


def turns_of(told: str) -> list[str]:
    """Return the responses in a transcript.

    >>> turns_of(transcript(["[up]", "[down]"]))
    ['[up]', '[down]']
    """
    return re.split(re.escape(RULE).replace(r"\{\}", r"\d+"), told)


def replay(episode: Episode, told: str, truncated: bool) -> Outcome:
    """Play a fresh episode by a transcript, and return its outcome; ``truncated`` is of the last turn.

    A transcript does not say which of the earlier turns were cut off, so a turn among them without a move counts as
    unparsable here.
    """
    *earlier, last = turns_of(told)
    for text in earlier:
        if not episode.done:
            episode.act(text, truncated=False)
    if not episode.done:
        episode.act(last, truncated)
    return episode.outcome
