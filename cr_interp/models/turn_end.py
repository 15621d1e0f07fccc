"""Which token ends an assistant's turn: the chat template says it, whatever the tokenizer calls its end of a text.

Mental model. A base model's tokenizer has ``<|endoftext|>`` as its eos while its template ends turns with ``<|im_end|>``.
A model that has learned to end its turn would be decoded on and on, babbling. So a finished conversation is rendered, and
what stands behind the assistant's last word is its end.
"""

import warnings
from typing import Any
from weakref import WeakKeyDictionary

from cr_interp.clock import template_of_the_day

ANSWER = "the assistant's answer"
_KNOWN: "WeakKeyDictionary[Any, tuple[str, tuple[int, ...]]]" = WeakKeyDictionary()


def turn_ends(tokenizer: Any) -> tuple[int, ...]:
    """Return the token with which the chat template ends an assistant's turn; empty where there is none.

    A template that ends turns with several tokens or with plain text is said, once: a response cannot be ended by that.
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    if not template:
        return ()
    try:
        known = _KNOWN.get(tokenizer)
    except TypeError:  # a stand-in that cannot be kept
        return _found(tokenizer)
    if known is None or known[0] != template:
        known = _KNOWN[tokenizer] = (template, _found(tokenizer))
    return known[1]


def _found(tokenizer: Any) -> tuple[int, ...]:
    turns = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, chat_template=template_of_the_day(tokenizer), tokenize=False)
    except Exception:  # a template that has no assistant, or asks for more; rendering a prompt will say it
        return ()
    _, answered, tail = str(text).rpartition(ANSWER)
    tail = tail.strip()
    if not answered or not tail:
        return ()
    ids = [int(i) for i in tokenizer(tail, add_special_tokens=False)["input_ids"]]
    words = getattr(tokenizer, "added_tokens_decoder", {})
    special = {*words, *getattr(tokenizer, "all_special_ids", [])}
    if ids and ids[0] in special:
        return (ids[0],)
    warnings.warn(
        f"The chat template ends an assistant's turn with {tail[:40]!r}, which is not one special token of its tokenizer: "
        f"responses end at the tokenizer's own end of text ({tokenizer.eos_token!r}) only.",
        stacklevel=2,
    )
    return ()
