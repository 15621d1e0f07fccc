"""What an analysis of answers must be given: a checkpoint, and its answers as token ids in both views."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cr_interp.mechanism.answers import Answer
from cr_interp.mechanism.spans import labels_of
from cr_interp.models.loading import Loaded
from cr_interp.tasks.base import Example, before
from cr_interp.views import Given, Message, NoContext, check_fits, check_same_prompt, render


@dataclass(frozen=True)
class Pair:
    """One prompt in both views, and the answer without the context, which is read in both.

    ``place`` is where in the answer the view with the context says ``other`` instead of ``own``; None where both views
    answer alike.

    >>> pair = Pair("0", "0", "harmed", without=[5, 6], given=[1, 2, 5, 6], response=[7, 8, 9], place=1, other=4)
    >>> pair.own                          # said without the context where ``other`` is said with it
    8
    """

    example_id: str
    cluster: str
    group: str
    without: Sequence[int]
    """Ids of the prompt without the context …"""
    given: Sequence[int]
    """… and with it."""
    response: Sequence[int]
    place: int | None = None
    other: int | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """View → what each token of its prompt is part of (``spans.LABELS``); empty where that is not known."""

    @property
    def own(self) -> int | None:
        return None if self.place is None else self.response[self.place]


@dataclass(frozen=True)
class Options:
    """The choice of what is explained. An analysis names in ``study.analyses`` those of its own that decide its rows."""

    groups: Sequence[str] = ("harmed", "rescued", "kept")
    examples: int = 64
    """Of each group, at most."""
    sites: Sequence[str] = ("resid_post", "attn_out", "mlp_out")
    """Kinds of sites, such as ``resid_post``."""
    spans: Sequence[str] = ("context", "system", "turns", "splice", "template")
    """Of the view with the context, what knockout cuts off."""
    readers: Sequence[str] = ("aligned", "all")
    """From which tokens: the aligned positions alone, so that the prompt's tokens still read it; or from all others."""
    cuts: Sequence[int] = (1, 0)
    """In how many layers at once where only the aligned positions lose the span; 0: in all."""
    cuts_all: Sequence[int] = (0,)
    """… and where all tokens lose it: then whole prompts are run again for every window, which costs many times more."""
    batch_size: int = 64
    backend: str = "hooks"
    prompts: int = 128
    """Of the training split, from which directions, probes and gradients are computed."""
    heads: int = 16
    """So many heads are patched exactly: those that attribution names first. 0: none."""
    windows: Sequence[int] = ()
    """So many layers are patched at once. None given: 2 and 4, as far as the model is deep enough."""


USUAL = Options()


@dataclass
class Weights:
    """The files of a checkpoint and of the model it came from: names that can be opened, nothing loaded."""

    checkpoint: str
    base: str
    others: Mapping[tuple[str, int], str]
    """arm and seed → the study's other trained checkpoints, each at its last step."""
    progress: Callable[[int, int], None] = lambda done, total: None


@dataclass
class Answers:
    """A checkpoint and the answers that are explained."""

    loaded: Loaded
    pairs: Sequence[Pair]
    options: Options = USUAL
    progress: Callable[[int, int], None] = lambda done, total: None


def rendered(
    loaded: Loaded,
    answers: Sequence[Answer],
    context: Given,
    no_context: NoContext = "empty_system",
    histories: Mapping[str, tuple[Message, ...]] | None = None,
) -> list[Pair]:
    """Render the answers as pairs of ids; ``histories`` are the conversations before some examples' prompts.

    Raises :class:`~cr_interp.errors.UserError` where the views do not end alike or do not fit into the model.
    """
    said = histories or {}
    asked = [Example(e.example_id, e.prompt, "", history=said.get(e.example_id, ())) for e in answers]
    without, given = (
        [render(loaded.tokenizer, each.prompt, before(each, view), no_context) for each in asked]
        for view in (None, context)
    )
    check_same_prompt(loaded.tokenizer, without, given, "exact")
    pairs = []
    for each, example, x, xc in zip(answers, asked, without, given, strict=True):
        labels = {
            "no_context": labels_of(loaded.tokenizer, x, each.prompt, before(example, None), no_context),
            "with_context": labels_of(loaded.tokenizer, xc, each.prompt, before(example, context), no_context),
        }
        check_fits(
            len(xc) + len(each.without), loaded.max_positions, f"Example {each.example_id} with its context"
        )
        other = None if each.place is None else each.given[each.place]
        pairs.append(
            Pair(each.example_id, each.cluster, each.group, x, xc, each.without, each.place, other, labels)
        )
    return pairs
