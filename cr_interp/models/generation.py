"""Sample or decode responses, with the prompts' shared prefix computed once.

A small loop instead of ``model.generate``, for three reasons: the prefix's keys and values are shared by the
whole batch, randomness is given as numbers of its own (:func:`noise`), and a response comes back as ids with its
end-of-turn token, ready to be appended to another view.

A prompt's token number t is drawn with the uniform number of its row and column t, and with nothing else: so neither the
batch it shares nor the process it is sampled in changes it, and a resumed run samples the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cr_interp.errors import NotFinite
from cr_interp.models.forward import Prefix, attention_mask, backbone, device_of, encode_prefix, logits
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import all_agree, is_sharded
from cr_interp.views import check_fits, shared_prefix


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. ``temperature`` 0 is greedy."""

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


def noise(seed: int, rows: Sequence[int], tokens: int) -> Float[Tensor, "row token"]:
    """Uniform numbers for the rows (places in a batch) that are asked for; a row's do not depend on which others are."""
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
    """A response per prompt (lists of ids), in order.

    Raises :class:`~cr_interp.errors.UserError` if prompt and response do not fit the model's positions.
    ``uniform`` (:func:`noise`) is what tokens are drawn with, unless decoding is greedy.
    ``prefix_length=0`` turns the sharing off. ``prefix`` may be one computed earlier; it is used if it is what is shared.
    """
    longest = max(map(len, prompts), default=0)
    check_fits(longest + decoding.max_new_tokens, loaded.max_positions, "The longest prompt with its response")
    shared = shared_prefix(prompts) if prefix_length is None else prefix_length
    common = tuple(prompts[0][:shared]) if prompts else ()
    if prefix is None or prefix.ids != common:
        prefix = encode_prefix(loaded.model, common)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # similar lengths: little padding
    responses: dict[int, Response] = {}
    for start in range(0, len(order), decoding.batch_size):
        chunk = order[start : start + decoding.batch_size]
        mine = None if uniform is None else uniform[chunk]
        decoded = _decode(loaded, prefix, [prompts[i][shared:] for i in chunk], decoding, mine)
        responses.update(zip(chunk, decoded, strict=True))
    return [responses[i] for i in range(len(prompts))]


def _decode(
    loaded: Loaded,
    prefix: Prefix,
    prompts: list[Sequence[int]],
    decoding: Decoding,
    uniform: Float[Tensor, "batch token"] | None,
) -> list[Response]:
    """One batch, left padded between the prefix and the prompts, so that all rows end in the same column."""
    device = device_of(loaded.model)
    model = backbone(loaded.model)
    length = max(map(len, prompts))
    ids = torch.tensor([[loaded.pad_id] * (length - len(p)) + list(p) for p in prompts], device=device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    mask = torch.arange(length, device=device)[None] >= length - lengths[:, None]
    positions = len(prefix.ids) + (mask.long().cumsum(-1) - 1).clamp(min=0)
    unpadded = bool(mask.all())
    cache = prefix.expand(len(ids))
    ends = torch.tensor(loaded.eos_ids, device=device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=device)
    chosen: list[Tensor] = []
    finished = all_agree if is_sharded(loaded.model) else bool
    drawn = None if uniform is None else uniform.to(device)
    for t in range(decoding.max_new_tokens):
        outputs = model(
            input_ids=ids,
            attention_mask=None
            if unpadded
            else attention_mask(loaded.model, prefix, positions, mask, ids.shape[1]),
            position_ids=positions[:, -ids.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )
        cache = outputs.past_key_values
        scores = (
            logits(loaded.model, outputs.last_hidden_state[:, -1]).float().to(device)
        )  # a spread model's head is elsewhere
        token = choose(scores, decoding, None if drawn is None else drawn[:, t])
        chosen.append(token)
        done |= torch.isin(token, ends)
        if finished(bool(done.all())):
            break
        ids = token[:, None]
        positions = torch.cat([positions, positions[:, -1:] + 1], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
    return [_cut(row.tolist(), loaded.eos_ids) for row in torch.stack(chosen, dim=1)]


def choose(
    scores: Float[Tensor, "batch vocabulary"], decoding: Decoding, uniform: Float[Tensor, " batch"] | None = None
) -> Int[Tensor, " batch"]:
    """The next token of each row: the best one at temperature 0, otherwise a draw (top-k, then top-p): the first token
    whose cumulated probability exceeds the row's number in [0, 1)."""
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
    """Everything up to and including the first end-of-turn token."""
    for position, token in enumerate(ids):
        if token in ends:
            return Response(tuple(ids[: position + 1]), truncated=False)
    return Response(tuple(ids), truncated=True)


def decode_text(loaded: Loaded, response: Response) -> str:
    """The response as text, special tokens removed: what graders and tables see."""
    return str(loaded.tokenizer.decode(list(response.ids), skip_special_tokens=True))
