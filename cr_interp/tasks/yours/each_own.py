"""The controls of contexts that examples bring along: another example's, filler as long, the row's own paraphrase.

Mental model. *Mismatched* is the context of the next example with another one, in a fixed order: real, and about something else.
*Irrelevant* is neutral filler that counts as many tokens; one filler for each length. A *paraphrase* cannot be made up, so it is
there where every row has one.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache

from cr_interp.errors import UserError
from cr_interp.tasks.base import CountTokens, Example
from cr_interp.tasks.lengths import FILLER, equal_length
from cr_interp.views import Context, EachOwn


def shared_context(examples: Sequence[Example]) -> Context | None:
    """Return the one context that all examples bring, if they all bring the same: then it is no context of each."""
    first = examples[0].context if examples else None
    return first if first is not None and all(each.context == first for each in examples) else None


def each_own(examples: Sequence[Example], count_tokens: CountTokens, told: str) -> dict[str, EachOwn]:
    """Control → context of each example. ``told`` is how they are made, for the manifest.

    Raises :class:`UserError` for an example that is none of these and brings no context of its own.
    """
    other = _others(examples)
    contexts = {"exact": EachOwn(_own, told)}
    if all(each.paraphrase is not None for each in examples):
        contexts["paraphrase"] = EachOwn(
            lambda example: example.paraphrase or _own(example), f"{told}, paraphrased"
        )
    if other:
        contexts["mismatched"] = EachOwn(
            lambda example: other.get(example.id, _own(example)), f"another row's {told}"
        )

    @cache
    def filler(tokens: int) -> Context:
        return equal_length(Context.system(FILLER[0]), tokens, FILLER[1:], count_tokens)

    shortest = min(count_tokens(_own(each)) for each in examples)
    if count_tokens(Context.system(FILLER[0])) <= shortest and _can_be_filled(filler, shortest):
        contexts["irrelevant"] = EachOwn(lambda example: filler(count_tokens(_own(example))), "filler as long")
    return contexts


def _own(example: Example) -> Context:
    if example.context is None:
        raise UserError(f"Example {example.id} brings no context of its own.")
    return example.context


def _others(examples: Sequence[Example]) -> dict[str, Context]:
    """Map example → the context of the next one, in the order of a hash, that has another; empty if all have the same."""
    order = sorted(examples, key=lambda each: hashlib.blake2b(each.id.encode(), digest_size=8).digest())
    found: dict[str, Context] = {}
    for place, example in enumerate(order):
        others = (order[(place + step) % len(order)] for step in range(1, len(order)))
        other = next((each.context for each in others if each.context != example.context), None)
        if other is None:
            return {}
        found[example.id] = other
    return found


def _can_be_filled(filler: Callable[[int], Context], shortest: int) -> bool:
    try:
        filler(shortest)
    except UserError:  # no filler word is that short in this tokenizer
        return False
    return True
