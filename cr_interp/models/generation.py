"""Sample or decode responses, with the prompts' shared prefix computed once.

A small loop stands in for ``model.generate``, for three reasons. The whole batch shares the prefix's keys and values.
Randomness is given as numbers of its own (:func:`noise`). A response comes back as ids with its end-of-turn token, ready to
be appended to another view.

Where a model cannot keep a prefix, or pads would show in what a row says (``batching.py``), prompts are decoded by length
and with the model's own cache, or without any.

A prompt's token number t is drawn with the uniform number of its row and column t, and with nothing else: so neither the
batch it shares nor the process it is sampled in changes it, and a resumed run samples the same tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cr_interp.errors import NotFinite
from cr_interp.models.batching import Batching, batching, refuse_sharded
from cr_interp.models.forward import Prefix, attention_mask, backbone, device_of, encode_prefix, logits, run_whole
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import all_agree, is_sharded
from cr_interp.models.short_cuts import resume
from cr_interp.views import check_fits, shared_prefix


@dataclass(frozen=True)
class Decoding:
    """A rule for choosing tokens. ``temperature`` 0 is greedy.

    >>> Decoding(max_new_tokens=256, temperature=0.7, top_p=0.9).batch_size
    64
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    batch_size: int = 64


@dataclass(frozen=True)
class Response:
    """Ids of a response, its end-of-turn token included; ``truncated`` if it never came."""

    ids: tuple[int, ...]
    truncated: bool


class Step(Protocol):
    """A batch that is being decoded."""

    @property
    def ids(self) -> Int[Tensor, "batch length"]:
        """Give what the next run reads."""
        ...

    def states(self) -> Float[Tensor, "batch width"]:
        """Run the model; the last states of every row, which its next token is chosen from."""
        ...

    def add(self, token: Int[Tensor, " batch"]) -> None:
        """Append a token to every row."""
        ...


Wrap = Callable[[Step, Sequence[int]], Step]
"""A batch and which of the prompts it is of → the batch as it shall be decoded: with edits, beside another one."""


def noise(seed: int, rows: Sequence[int], tokens: int) -> Float[Tensor, "row token"]:
    """Draw uniform numbers for the rows (places in a batch) that are asked for; a row's do not depend on which others are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(max(rows, default=-1) + 1, tokens, generator=generator)[list(rows)]


@torch.no_grad()
def generate(
    loaded: Loaded,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    uniform: Float[Tensor, "prompt token"] | None = None,
    prefix_length: int | None = None,
    prefix: Prefix | None = None,
) -> list[Response]:
    """Generate a response per prompt (lists of ids), in order.

    Raises :class:`~cr_interp.errors.UserError` if prompt and response do not fit the model's positions. ``uniform``
    (:func:`noise`) is what tokens are drawn with, unless decoding is greedy. ``prefix_length=0`` turns the sharing off.
    ``prefix`` may be one computed earlier; it is used if it is what is shared.

    >>> import cr_interp as cr
    >>> loaded = cr.load("builtin:organism-rules")
    >>> context = cr.Context.system("write the next letter for each")
    >>> prompts = [cr.render(loaded.tokenizer, word, context) for word in ("abcd", "hello")]
    >>> answers = cr.generate(loaded, prompts, cr.Decoding(max_new_tokens=8))      # greedy
    >>> [loaded.tokenizer.decode(answer.ids) for answer in answers]
    ['bcde<|end|>', 'ifmmp<|end|>']
    """
    longest = max(map(len, prompts), default=0)
    check_fits(longest + decoding.max_new_tokens, loaded.max_positions, "The longest prompt with its response")
    return respond(loaded.model, prompts, decoding, loaded.eos_ids, loaded.pad_id, uniform, prefix_length, prefix)


@torch.no_grad()
def respond(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    ends: Sequence[int],
    pad_id: int = 0,
    uniform: Float[Tensor, "prompt token"] | None = None,
    prefix_length: int | None = None,
    prefix: Prefix | None = None,
    wrap: Wrap | None = None,
) -> list[Response]:
    """Do as :func:`generate` for a bare model; ``ends`` are the tokens that end a response. ``wrap`` may change each batch's
    runs.
    """
    total = max(map(len, prompts), default=0) + decoding.max_new_tokens
    way = batching(model)
    kept = way.prefix and way.length_class(total) == ()
    if is_sharded(model) and not (kept and way.left):
        refuse_sharded()  # the processes would decode in unequal numbers of batches
    shared = shared_prefix(prompts) if prefix_length is None else prefix_length
    common = tuple(prompts[0][:shared]) if prompts and kept else ()
    if prefix is None or prefix.ids != common:
        prefix = encode_prefix(model, common)
    responses: dict[int, Response] = {}
    for chunk in _chunks(prompts, decoding.batch_size, way, kept):
        mine = None if uniform is None else uniform[chunk]
        rest = [prompts[i][len(common) :] for i in chunk]
        step: Step = _Shared(model, prefix, rest, pad_id) if kept else _Whole(model, rest, way)
        step = step if wrap is None else wrap(step, chunk)
        responses.update(zip(chunk, _decode(model, step, decoding, ends, mine), strict=True))
    return [responses[i] for i in range(len(prompts))]


def steps(
    model: nn.Module, prompts: Sequence[Sequence[int]], most: int, pad_id: int = 0
) -> list[tuple[list[int], Step]]:
    """Divide prompts into batches that can be decoded up to ``most`` tokens, with the numbers of their rows: one batch, or
    one a length.
    """
    way = batching(model)
    kept = way.prefix and way.length_class(max(map(len, prompts)) + most) == ()
    common = tuple(prompts[0][: shared_prefix(prompts)]) if kept else ()
    prefix = encode_prefix(model, common)
    found: list[tuple[list[int], Step]] = []
    for chunk in _chunks(prompts, len(prompts), way, kept):
        rest = [prompts[i][len(common) :] for i in chunk]
        found.append((chunk, _Shared(model, prefix, rest, pad_id) if kept else _Whole(model, rest, way)))
    return found


def _chunks(prompts: Sequence[Sequence[int]], size: int, way: Batching, kept: bool) -> Iterator[list[int]]:
    """Choose which prompts are decoded together: similar lengths, so that there is little padding; one length, where pads on the
    left would show; each alone, where neighbours would."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    equal = not (kept and way.left)
    for _, found in groupby(order, key=lambda i: len(prompts[i]) if equal else 0):
        group = list(found)
        step = 1 if way.rows == "one" else size
        yield from (group[start : start + step] for start in range(0, len(group), step))


class _Shared:
    """The next step's states behind a prefix that all rows share, left padded between the prefix and the prompts, so that
    all rows end in the same column."""

    def __init__(self, model: nn.Module, prefix: Prefix, prompts: list[Sequence[int]], pad_id: int) -> None:
        device = device_of(model)
        length = max(map(len, prompts))
        self.model, self.prefix = model, prefix
        self.ids = torch.tensor([[pad_id] * (length - len(p)) + list(p) for p in prompts], device=device)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        self.mask = torch.arange(length, device=device)[None] >= length - lengths[:, None]
        self.positions = len(prefix.ids) + (self.mask.long().cumsum(-1) - 1).clamp(min=0)
        self.unpadded = bool(self.mask.all())
        self.cache: Any = prefix.expand(len(prompts))

    def states(self) -> Float[Tensor, "batch width"]:
        asked = self.ids.shape[1]
        outputs = backbone(self.model)(
            input_ids=self.ids,
            attention_mask=None
            if self.unpadded
            else attention_mask(self.model, self.prefix, self.positions, self.mask, asked),
            position_ids=self.positions[:, -asked:],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = outputs.past_key_values
        return outputs.last_hidden_state[:, -1]

    def add(self, token: Int[Tensor, " batch"]) -> None:
        self.ids = token[:, None]
        self.positions = torch.cat([self.positions, self.positions[:, -1:] + 1], dim=1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)


class _Whole:
    """The next step's states of sequences of one length, for a model whose prefix cannot be kept. Its own cache goes on
    where it is exact and the rotary factors have stayed the same; otherwise the sequence is read again."""

    def __init__(self, model: nn.Module, prompts: list[Sequence[int]], way: Batching) -> None:
        self.model, self.way = model, way
        self.ids = torch.tensor([list(p) for p in prompts], device=device_of(model))
        self.cache: Any = None
        self.made_for: Any = None

    def states(self) -> Float[Tensor, "batch width"]:
        if not self.way.resumes:
            return run_whole(self.model, self.ids)[:, -1]
        factors = self.way.length_class(self.ids.shape[1])
        if factors != self.made_for:
            self.cache, self.made_for = None, factors
        asked = self.ids if self.cache is None else self.ids[:, -1:]
        states, self.cache = resume(self.model, asked, self.cache)
        return states[:, -1]

    def add(self, token: Int[Tensor, " batch"]) -> None:
        self.ids = torch.cat([self.ids, token[:, None]], dim=1)


def _decode(
    model: nn.Module,
    step: Step,
    decoding: Decoding,
    ends: Sequence[int],
    uniform: Float[Tensor, "batch token"] | None,
) -> list[Response]:
    """Decode one batch."""
    device = device_of(model)
    ending = torch.tensor(list(ends), dtype=torch.long, device=device)
    done = torch.zeros(len(step.ids), dtype=torch.bool, device=device)
    chosen: list[Tensor] = []
    finished = all_agree if is_sharded(model) else bool
    drawn = None if uniform is None else uniform.to(device)
    for t in range(decoding.max_new_tokens):
        scores = logits(model, step.states()).float().to(device)  # a spread model's head is elsewhere
        token = choose(scores, decoding, None if drawn is None else drawn[:, t])
        chosen.append(token)
        done |= torch.isin(token, ending)
        if finished(bool(done.all())):
            break
        step.add(token)
    return [_cut(row.tolist(), ends) for row in torch.stack(chosen, dim=1)]


def choose(
    scores: Float[Tensor, "batch vocabulary"], decoding: Decoding, uniform: Float[Tensor, " batch"] | None = None
) -> Int[Tensor, " batch"]:
    """Choose the next token of each row: the best one at temperature 0, otherwise a draw (top-k, then top-p): the first token
    whose cumulated probability exceeds the row's number in [0, 1).
    """
    if not bool(torch.isfinite(scores).all()):
        raise NotFinite(
            "The model's logits are not finite, so no next token can be chosen: its training has diverged."
        )
    if decoding.temperature == 0:
        return scores.argmax(-1)
    if uniform is None:
        raise ValueError("sampling needs a uniform number for each row: see `noise`")
    scores = scores / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < scores.shape[-1]:
        kth = scores.topk(decoding.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    probabilities = scores.softmax(-1)
    if decoding.top_p is not None and decoding.top_p < 1:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= decoding.top_p  # the first token is always inside
        probabilities = probabilities.masked_fill(outside.gather(-1, index.argsort(-1)), 0.0)
    cumulated = probabilities.cumsum(-1)
    whole = cumulated[:, -1:]
    # Below the whole, which rounding would otherwise let a number reach; a token without probability is never first.
    threshold = torch.minimum(uniform[:, None] * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(cumulated, threshold, right=True)[:, 0]


def _cut(ids: list[int], ends: Sequence[int]) -> Response:
    """Keep everything up to and including the first end-of-turn token."""
    for position, token in enumerate(ids):
        if token in ends:
            return Response(tuple(ids[: position + 1]), truncated=False)
    return Response(tuple(ids), truncated=True)


def decode_text(loaded: Loaded, response: Response) -> str:
    """Decode the response to text, without its end and without special tokens: what graders and tables see."""
    said = response.ids if response.truncated else response.ids[:-1]
    return str(loaded.tokenizer.decode(list(said), skip_special_tokens=True))
