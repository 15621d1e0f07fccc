"""The two views of a prompt, and which positions of them can be compared.

Mental model. A *view* turns one user prompt into token ids: ``no_context`` is the prompt alone,
``with_context`` the same prompt behind a context (a system message, few-shot turns, a text spliced into
the user message). A *response* is a list of ids, appended to both views as ids and never re-tokenised, so
both views score exactly the same tokens:

    no_context     [ prompt ......... ][ response ]
    with_context   [ context ][ prompt ][ response ]
                                     ^^^^^^^^^^^^   the aligned positions

For a response of R tokens the *aligned positions* are the R positions whose output predicts its tokens:
the last prompt token up to the last but one response token. Losses, captures and comparisons use only those.

All with-context ids of a batch start alike. :func:`shared_prefix` says for how long: that part is computed
once with batch size 1 (see ``forward.py``), which is where the speed comes from.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from cr_interp.clock import template_of_the_day
from cr_interp.errors import UserError
from cr_interp.system.time_limit import limited

#: A template is a program that came with the model; rendering a prompt takes a thousandth of this.
TEMPLATE_SECONDS = 10.0
Message = dict[str, str]
View = Literal["no_context", "with_context"]
NoContext = Literal["empty_system", "template_default"] | tuple[Message, ...]


@dataclass(frozen=True)
class Context:
    """The part of a prompt that the teacher sees and the student is trained to do without.

    Either ``messages`` (chat messages placed before the prompt) or ``splice`` (a text put into the user
    message, where ``{prompt}`` stands for the prompt), or both.
    """

    messages: tuple[Message, ...] = ()
    splice: str = "{prompt}"

    def __post_init__(self) -> None:
        if not isinstance(self.splice, str):
            raise UserError(f"A spliced context is a text with '{{prompt}}'; found {type(self.splice).__name__}.")
        if self.splice.count("{prompt}") != 1:
            raise UserError(
                f"A spliced context has to contain '{{prompt}}' exactly once, to say where the prompt goes; "
                f"found it {self.splice.count('{prompt}')} times in {self.splice[:80]!r}."
            )
        if not isinstance(self.messages, tuple | list):
            raise UserError(f"A context's 'messages' are a list; found {type(self.messages).__name__}.")
        object.__setattr__(self, "messages", tuple(map(checked_message, self.messages)))

    @staticmethod
    def system(text: str) -> "Context":
        """Make the commonest context: one system message."""
        return Context(messages=({"role": "system", "content": text},))

    def to_dict(self) -> dict[str, Any]:
        return {"messages": list(self.messages), "splice": self.splice}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Context":
        extra = set(data) - {"messages", "splice"}
        if extra:
            raise UserError(f"A context has the keys 'messages' and 'splice'; found {sorted(extra)} as well.")
        return Context(data.get("messages", ()), data.get("splice", "{prompt}"))


@dataclass(frozen=True)
class EachOwn:
    """The contexts that examples bring along, one each: ``of`` tells an example's. The same place as a :class:`Context` has."""

    of: Callable[[Any], Context]
    told: str
    """How they are made, for manifests: a template, a column."""

    def to_dict(self) -> dict[str, Any]:
        return {"each": self.told}


#: What a task gives under one control: the same for all examples, or one for each.
Given = Context | EachOwn


def checked_message(message: Any) -> Message:
    """Check a message: a role that exists, and a text. Raises :class:`UserError` for anything else."""
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "user", "assistant") or set(message) != {"role", "content"}:
        raise UserError(
            f"A context message needs exactly the keys 'role' (system, user or assistant) and 'content'; "
            f"found {message!r}."
        )
    return {"role": role, "content": message_text(message["content"], f"a message of role {role}")}


def message_text(content: Any, where: str) -> str:
    """Return the text of a message. Content parts (``[{"type": "text", "text": "…"}]``) become one text, a line after the
    other.

    Raises :class:`UserError` for a part that is not text: what a model would be shown of an image is Python's way to write
    it.

    >>> message_text([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "here")
    'one\\ntwo'
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple) or not content:
        raise UserError(f"In {where} the content has to be a text; found {type(content).__name__}.")
    for part in content:
        given = {key for key, value in part.items() if value is not None} if isinstance(part, dict) else set()
        if given != {"type", "text"} or part["type"] != "text" or not isinstance(part["text"], str):
            found = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise UserError(
                f"In {where} a content part is not a text ({str(found)[:40]!r}). Only texts are read here: write the "
                f"content as one text, or as parts {{'type': 'text', 'text': '…'}}."
            )
    return "\n".join(part["text"] for part in content)


def render(
    tokenizer: Any, prompt: str, context: Context | None = None, no_context: NoContext = "empty_system"
) -> list[int]:
    """Render a prompt in one view as token ids, up to and including the header of the assistant's turn.

    ``context=None`` is the no-context view. What "no context" means is explicit, because some chat templates inject a default
    system prompt when none is given: ``empty_system`` gives an empty system message, ``template_default`` leaves the choice
    to the template, and a tuple of messages is used as it is. A context whose first message is not a system message is
    preceded by the same no-context messages.
    """
    messages = messages_of(prompt, context, no_context)
    written = chat_text(tokenizer, messages)
    for message in () if context is None else context.messages:
        if message["role"] != "assistant" and message["content"].strip() not in written:
            raise UserError(
                f"The chat template leaves out what the context says as {message['role']} ({message['content'][:60]!r}): it "
                f"knows no such message in that place. Put the context into the user's message (splice), or take a model "
                f"whose template has that role."
            )
    return _as_ids(tokenizer, written, messages)


def messages_of(
    prompt: str, context: Context | None = None, no_context: NoContext = "empty_system"
) -> list[Message]:
    """Return the chat that :func:`render` writes: what is there instead of a context or the context, then the prompt."""
    neutral: list[Message]
    if no_context == "empty_system":
        neutral = [{"role": "system", "content": ""}]
    elif no_context == "template_default":
        neutral = []
    else:
        neutral = [checked_message(message) for message in no_context]
    before = neutral
    if context is not None and context.messages:
        given = [dict(message) for message in context.messages]
        before = given if given[0]["role"] == "system" else neutral + given
    text = prompt if context is None else context.splice.replace("{prompt}", prompt)
    return [*before, {"role": "user", "content": text}]


def _as_ids(tokenizer: Any, text: str, messages: Sequence[Message]) -> list[int]:
    """Tokenise a rendered chat. Special tokens that a message spells are read as the letters they are spelt with: only the
    template opens and ends turns, whatever a prompt says."""
    said = [message["content"] for message in messages]
    special = special_in(tokenizer, said)
    if not special:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    # Private letters, which no template looks for, and such that no message has them.
    first = next(n for n in count(0, len(special)) if not any(f"\ue000{n}" in text for text in said))
    marks = {token: f"\ue000{first}\ue002{n}\ue001" for n, token in enumerate(special)}
    spelt = re.compile("|".join(map(re.escape, special)))
    marked = [
        {**message, "content": spelt.sub(lambda found: marks[found.group()], message["content"])}
        for message in messages
    ]
    tokens = {mark: token for token, mark in marks.items()}
    ids: list[int] = []
    for part in re.split(f"(\ue000{first}\ue002[0-9]+\ue001)", chat_text(tokenizer, marked)):
        if part in tokens:
            ids += tokenizer(tokens[part], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        elif part:
            ids += tokenizer(part, add_special_tokens=False)["input_ids"]
    return ids


def special_in(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Return the tokenizer's special tokens that some text spells, the longest first."""
    known = {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    known |= {str(each) for each in getattr(tokenizer, "added_tokens_decoder", {}).values() if each.special}
    return sorted((each for each in known if each and any(each in text for text in texts)), key=len, reverse=True)


def chat_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Return the chat template's text, up to the header of the assistant's turn, on the day of ``clock.py``."""
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "The tokenizer has no chat template, so a system message has no place in its prompts. "
            "Use an instruct model, or set tokenizer.chat_template."
        )
    try:
        with limited(
            TEMPLATE_SECONDS, "The chat template does not come to an end. Take it from where it was published."
        ):
            return str(
                tokenizer.apply_chat_template(
                    list(messages),
                    chat_template=template_of_the_day(tokenizer),
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
    except UserError:
        raise
    except Exception as error:  # jinja2 raises whatever the template asks for
        raise UserError(
            f"The chat template refuses these messages ({error}). If it knows no system role, use "
            f"no_context='template_default' and a context spliced into the user message."
        ) from error


#: Variables that rendering fills: another value would change every prompt, or leave it without its messages.
TAKEN = (
    "messages",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "loop",
    "namespace",
)


def refuse_taken(variables: Iterable[str]) -> None:
    """Raise :class:`UserError` for a variable whose value is the messages' or the tokenizer's to give."""
    if taken := [name for name in variables if name in TAKEN]:
        raise UserError(
            f"template cannot set {', '.join(taken)}: rendering gives what the chat template calls so. Take it out; variables of "
            f"the template's own, such as enable_thinking, can be set."
        )


def context_length(tokenizer: Any, context: Context, no_context: NoContext = "empty_system") -> int:
    """Count the tokens of the with-context view of a fixed short prompt: for comparing the lengths of contexts."""
    return len(render(tokenizer, "x", context, no_context))


def check_fits(length: int, limit: int | None, what: str) -> None:
    """Refuse a sequence that the model's positions cannot hold; nothing here ever truncates."""
    if limit is not None and length > limit:
        raise UserError(
            f"{what} needs {length} tokens, but the model has {limit} positions. Nothing is truncated here: "
            f"shorten the context or the response, or take a model with more positions."
        )


def check_same_prompt(
    tokenizer: Any,
    without: Sequence[Sequence[int]],
    given: Sequence[Sequence[int]],
    control: str,
    least: int = 2,
) -> None:
    """Check that both views end alike: otherwise the aligned positions do not see the same prompt.

    A tokenizer that merges across the border between context and prompt, or a template that writes something else in front of
    the answer, shows in the last ids. Spliced contexts may put text behind the prompt, so only the end of the prompt, at
    least the header of the assistant's turn, is asked for.
    """
    for one, other in zip(without, given, strict=True):
        if one[-least:] != other[-least:]:
            raise UserError(
                f"With context '{control}' a prompt ends in the tokens {tokenizer.convert_ids_to_tokens(other[-least:])}, "
                f"without it in {tokenizer.convert_ids_to_tokens(one[-least:])}: the positions of the two views would not "
                f"see the same text. Put the context in front of the prompt, and end it so that no token spans both."
            )


def check_context_shows(
    tokenizer: Any, without: Sequence[Sequence[int]], given: Sequence[Sequence[int]], control: str
) -> None:
    """Refuse a context that is in neither view: with equal ids there is nothing to measure, and every number would be a
    perfect one."""
    for one, other in zip(without, given, strict=True):
        if list(one) == list(other):
            name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
            raise UserError(
                f"With context '{control}' a prompt is the same {len(one)} tokens as without it, so there is nothing to "
                f"measure. Either the context is empty, or the chat template of {name} drops the role that it is given in "
                f"(many drop the system message). Give a context with words in it; put it into the user's message (splice) if "
                f"the template has no such role."
            )


def shared_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Return length of the longest common prefix that leaves every sequence at least one token of its own.

    >>> shared_prefix([[1, 2, 3, 4], [1, 2, 3], [1, 2, 9, 9]])
    2
    >>> shared_prefix([[1, 2, 3], [1, 2, 3]])
    2
    """
    if not sequences:
        return 0
    shortest = min(len(sequence) for sequence in sequences)
    low, high = (
        min(sequences, key=list),
        max(sequences, key=list),
    )  # lexicographic extremes share exactly what all share
    common = 0
    while common < shortest - 1 and low[common] == high[common]:
        common += 1
    return common


def aligned_positions(prompt_length: int, response_length: int) -> range:
    """Return the positions whose outputs predict the response: ``prompt_length - 1 … prompt_length + R - 2``.

    >>> list(aligned_positions(5, 3))
    [4, 5, 6]
    """
    if response_length < 1:
        raise UserError(
            "An empty response has no aligned positions: a response holds at least its end-of-turn token. "
            "Found a response of 0 tokens; drop that example or sample it again."
        )
    return range(prompt_length - 1, prompt_length + response_length - 1)
