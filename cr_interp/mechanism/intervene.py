"""Change a model while it answers one prompt, and see what it says: the state put in, the context hidden, a direction added.

    intervene(loaded, prompt, context, PutIn("attn_out", (1,)), 20).edited.text

Mental model. Patching, knockout and directions score a given answer; here the changed model decodes its own. The run with the
context is changed (a direction may also go into the one without), at the positions that the answer comes from, the prompt's
last token and every token that is said.

    PutIn    the state without the context, of a run that reads whatever is said here
    Block    the context's tokens cannot be read in some layers
    Steer    a direction is added, or a state's part along it is taken out
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.capture import capture, model_lock, steer
from cr_interp.capture.attention import attention_path, cutting, eager
from cr_interp.capture.decoding import answering, generate
from cr_interp.capture.edits import Edit
from cr_interp.capture.sites import Site, SiteName, blocks, check_site
from cr_interp.errors import UserError, unknown
from cr_interp.measure.tryout import Answer
from cr_interp.mechanism.cells import heads
from cr_interp.mechanism.spans import context_span, labels_of
from cr_interp.models.forward import build_view, unwrap
from cr_interp.models.generation import Decoding, Response, Step
from cr_interp.models.generation import generate as decode
from cr_interp.models.loading import Loaded
from cr_interp.views import Context, NoContext, check_context_shows, check_same_prompt, render


@dataclass(frozen=True)
class PutIn:
    """The no-context view's states at a site of some layers, or of one head of ``z``, in the run with the context."""

    site: SiteName
    layers: Sequence[int]
    head: int | None = None

    def __str__(self) -> str:
        which = f", head {self.head}" if self.head is not None else ""
        return f"{self.site} without the context put into {_layers(self.layers)}{which}"


@dataclass(frozen=True)
class Block:
    """A span of the context that cannot be read in some layers: from where the answer comes, or from all that is behind it."""

    layers: Sequence[int]
    span: str = "context"
    readers: Literal["aligned", "all"] = "aligned"

    def __str__(self) -> str:
        who = "where it answers" if self.readers == "aligned" else "by any token"
        return f"the span '{self.span}' not read in {_layers(self.layers)} {who}"


@dataclass(frozen=True)
class Steer:
    """``scale`` times a direction, added to a state; or the state's part along it taken out."""

    layer: int
    vector: Float[Tensor, " width"]
    scale: float = 1.0
    remove: bool = False
    site: SiteName = "resid_post"
    view: Literal["no_context", "with_context"] = "with_context"
    everywhere: bool = False
    """At every position of the prompt too, not only where the answer comes from."""

    def __str__(self) -> str:
        done = "taken out" if self.remove else f"added {self.scale:g} times"
        return f"a direction {done} at {self.site} of layer {self.layer}, {self.view.replace('_', ' ')}"


Change = PutIn | Block | Steer


@dataclass(frozen=True)
class Intervened:
    """Three answers of a model: without the context, with it, and changed; ``said``: the change in words."""

    without: Answer
    given: Answer
    edited: Answer
    said: str


@torch.no_grad()
def intervene(
    loaded: Loaded,
    prompt: str,
    context: Context,
    change: Change,
    max_new_tokens: int,
    no_context: NoContext = "empty_system",
) -> Intervened:
    """Answer greedily without the context, with it, and with ``change``.

    Raises :class:`UserError` for sites, layers, heads and spans that there are not, for a direction of another width, and for a
    prompt or context that does not fit.
    """
    without, given = (render(loaded.tokenizer, prompt, each, no_context) for each in (None, context))
    check_context_shows(loaded.tokenizer, [without], [given], "as given")
    check_same_prompt(loaded.tokenizer, [without], [given], "as given")
    decoding = Decoding(max_new_tokens)
    with model_lock(loaded.model):
        usual = [decode(loaded, [ids], decoding)[0] for ids in (without, given)]
        if isinstance(change, PutIn):
            edited = generate(loaded, [given], decoding, put=_units(loaded, change), donors=[without])
        elif isinstance(change, Block):
            span = _span(loaded, change.span, prompt, context, without, given, no_context)
            edited = _blocked(loaded, given, decoding, change, span)
        else:
            ids = given if change.view == "with_context" else without
            edited = generate(
                loaded, [ids], decoding, {Site(change.site, change.layer): _direction(loaded, change)}
            )
    without_it, with_it, changed = (Answer.of(loaded, response) for response in (*usual, *edited))
    return Intervened(without_it, with_it, changed, str(change))


@torch.no_grad()
def difference(
    loaded: Loaded,
    prompts: Sequence[str],
    context: Context,
    site: SiteName,
    layer: int,
    no_context: NoContext = "empty_system",
) -> Float[Tensor, " width"]:
    """Compute the mean over prompts of the state with the context minus the state without it, at the prompt's last token."""
    states = []
    for each in (None, context):
        ids = [render(loaded.tokenizer, prompt, each, no_context) for prompt in prompts]
        view = build_view(ids, [[loaded.pad_id]] * len(ids), loaded.pad_id)
        states.append(capture(loaded.model, view, [Site(site, layer)])[Site(site, layer)])
    return (states[1] - states[0]).float().mean(0)


def _units(loaded: Loaded, change: PutIn) -> dict[Site, slice]:
    sites = [Site(change.site, layer) for layer in _checked(loaded, change.site, change.layers)]
    if change.head is None:
        return dict.fromkeys(sites, slice(None))
    count = heads(loaded.model)
    if change.site != "z" or not 0 <= change.head < count:
        raise UserError(
            f"There is no head {change.head} at {change.site}. Heads are parts of z; this model has heads 0 to {count - 1} "
            f"in every layer."
        )
    config = unwrap(loaded.model).config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // count
    return dict.fromkeys(sites, slice(change.head * size, (change.head + 1) * size))


def _checked(loaded: Loaded, site: SiteName, layers: Sequence[int]) -> Sequence[int]:
    if not layers:
        raise UserError(f"No layer was given; this model has layers 0 to {len(blocks(loaded.model)) - 1}.")
    for layer in layers:
        check_site(loaded.model, Site(site, layer))
    return layers


def _span(
    loaded: Loaded,
    name: str,
    prompt: str,
    context: Context,
    without: Sequence[int],
    given: Sequence[int],
    no_context: NoContext,
) -> list[int]:
    """Return positions of a span in the prompt with the context."""
    if name == "context":
        return list(context_span(without, given))
    labels = labels_of(loaded.tokenizer, given, prompt, context, no_context)
    found = [i for i, label in enumerate(labels[:-1]) if label == name]
    if not found:
        raise unknown("span of this prompt", name, ["context", *dict.fromkeys(labels)])
    return found


def _blocked(
    loaded: Loaded, given: Sequence[int], decoding: Decoding, change: Block, span: Sequence[int]
) -> list[Response]:
    model, layers = loaded.model, list(_checked(loaded, "resid_post", change.layers))
    for layer in layers:
        attention_path(model, layer)

    def blocked(queries: int, keys: int) -> Tensor:
        hidden = torch.zeros(keys, dtype=torch.bool)
        hidden[[i for i in span if i < keys]] = True
        columns = torch.arange(keys - queries, keys)
        asking = columns >= len(given) - 1 if change.readers == "aligned" else ~hidden[columns]
        return (asking[:, None] & hidden[None])[None]

    def inside(_step: Step, _rows: Sequence[int]) -> AbstractContextManager[None]:
        return cutting(model, layers, blocked)

    with eager(model):
        return generate(loaded, [given], decoding, inside=inside)


def _direction(loaded: Loaded, change: Steer) -> Edit:
    width = int(unwrap(loaded.model).config.get_text_config().hidden_size)
    _checked(loaded, change.site, [change.layer])
    if tuple(change.vector.shape) != (width,) and change.site != "z":
        raise UserError(
            f"A direction at {change.site} of this model has {width} numbers; found {tuple(change.vector.shape)}."
        )
    along = change.vector / change.vector.norm()

    def remove(state: Tensor) -> Tensor:
        unit = along.to(state)
        return state - (state @ unit)[..., None] * unit

    edit = remove if change.remove else steer(change.vector, change.scale)
    return edit if change.everywhere else answering(edit)


def _layers(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
