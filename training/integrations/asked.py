"""A few examples of somebody's data set, rendered in both views by the tokenizer of the model that is being trained.

Mental model. A row has a ``prompt`` (a text, or chat messages that end in the user's), and may have an ``answer`` and a
``context`` of its own (TRL's name for it, ``privileged_context``, is read too). What the context is and where it goes:

    a text                     a system message before the prompt
    a text with {prompt}       the user's message, with the prompt where it says so
    a ``Context``              its messages before the prompt, its text around it

A prompt that is a text is the user's message behind ``no_context``; a list of messages is used as it stands, as TRL does. With
``as_text``, and with a tokenizer that has no chat template, both views are plain texts: the context, an empty line, the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cr_interp.configuration import brief
from cr_interp.errors import UserError
from cr_interp.system.notes import say
from cr_interp.views import (
    Context,
    NoContext,
    check_context_shows,
    check_same_prompt,
    checked_message,
    render,
    special_in,
)

#: Names under which a row brings its own context.
OWN = ("context", "privileged_context")


@dataclass(frozen=True)
class Asked:
    """One example in both views, as ids. ``answer`` None: there is no key."""

    id: str
    prompt: str
    answer: str | None
    without: list[int]
    given: list[int]


def asked(
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    context: Context | str | None = None,
    template: str | None = None,
    no_context: NoContext = "empty_system",
    as_text: bool = False,
) -> list[Asked]:
    """Return the rows in both views. ``template`` is how TRL puts a row's own context beside its prompt
    (``"{prompt}\\n\\n{privileged_context}"``).

    Raises :class:`UserError` for a row without a prompt or without any context, and for a context that does not show.
    """
    if not rows:
        raise UserError("There is no example to ask. Give a few rows with a 'prompt'.")
    found, special = [], set[str]()
    for number, row in enumerate(rows):
        where = f"Example {number}"
        prompt, before = _prompt(row.get("prompt"), where)
        own = next((row[name] for name in OWN if row.get(name) is not None), context)
        if own is None:
            raise UserError(f"{where} has no context: give one for all, or one in each row ({', '.join(OWN)}).")
        spoken = _context(own, template, where)
        answer = row.get("answer")
        if as_text or not has_template(tokenizer):
            without, given = _texts(tokenizer, prompt, before or (), spoken)
            special |= {
                *special_in(tokenizer, [prompt, *_words(before or ()), *_words(spoken.messages), spoken.splice])
            }
        else:
            neutral = no_context if before is None else before
            without, given = _chats(tokenizer, prompt, before or (), spoken, neutral)
        found.append(
            Asked(str(row.get("id", number)), prompt, None if answer is None else str(answer), without, given)
        )
    if special:  # as a trainer reads texts; in a chat only the template's own are special
        say(
            f"Texts of the examples spell special tokens, which are read as such: {', '.join(sorted(special)[:8])}."
        )
    plain, behind = [each.without for each in found], [each.given for each in found]
    check_context_shows(tokenizer, plain, behind, "as given")
    check_same_prompt(tokenizer, plain, behind, "as given", least=1)
    return found


def has_template(tokenizer: Any) -> bool:
    """Tell whether prompts can be chats."""
    return bool(getattr(tokenizer, "chat_template", None))


def _prompt(prompt: Any, where: str) -> tuple[str, tuple[dict[str, str], ...] | None]:
    """Return the user's text, and the messages before it; None if it is no list of messages."""
    if isinstance(prompt, str):
        return prompt, None
    if isinstance(prompt, Sequence) and prompt and all(isinstance(each, Mapping) for each in prompt):
        last = prompt[-1]
        if last.get("role") != "user":
            raise UserError(
                f"{where}: its last message is of {brief(last.get('role'))}; a prompt ends with the user's text."
            )
        try:
            *before, asked = (
                checked_message({"role": m.get("role"), "content": m.get("content")}) for m in prompt
            )
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        return asked["content"], tuple(before)
    raise UserError(
        f"{where} has no 'prompt': a text, or a list of chat messages; found {type(prompt).__name__}."
    )


def _context(own: Any, template: str | None, where: str) -> Context:
    if isinstance(own, Context):
        return own
    if isinstance(own, Mapping):
        return Context.from_dict(dict(own))
    if isinstance(own, Sequence) and not isinstance(own, str):
        return Context(messages=tuple(own))
    if not isinstance(own, str) or not own.strip():
        raise UserError(f"{where}: its context is {own!r}; a context is a text, messages, or a Context.")
    if template is not None:
        return Context(splice=template.replace("{privileged_context}", own.replace("{prompt}", "{ prompt }")))
    return Context(splice=own) if own.count("{prompt}") == 1 else Context.system(own)


def _texts(
    tokenizer: Any, prompt: str, before: tuple[dict[str, str], ...], context: Context
) -> tuple[list[int], list[int]]:
    said = [*_words(before), *_words(context.messages)]
    behind = "\n\n".join([*said, context.splice.replace("{prompt}", prompt)])
    plain = "\n\n".join([*_words(before), prompt])
    return list(tokenizer(plain)["input_ids"]), list(tokenizer(behind)["input_ids"])


def _words(messages: Sequence[Mapping[str, str]]) -> list[str]:
    return [message["content"] for message in messages]


def _chats(
    tokenizer: Any, prompt: str, before: tuple[dict[str, str], ...], context: Context, neutral: NoContext
) -> tuple[list[int], list[int]]:
    without = render(tokenizer, prompt, None, neutral)
    if before and context.messages and context.messages[0]["role"] == "system":
        # A system message of the context takes the place of the prompt's own, and the turns between stay.
        turns = before[1:] if before[0]["role"] == "system" else before
        context = Context((*context.messages, *turns), context.splice)
    return without, render(tokenizer, prompt, context, neutral)
