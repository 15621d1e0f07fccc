"""Does it matter how a model is run? Every layout and every short cut against one plain sequence at a time.

Mental model. The reference is what anybody would do: the library's own forward on one sequence, no pads, no cache, no
position ids. Against it stand batches of unequal lengths, padded on either side, with the prefix shared and without; and
decoding against the library's ``generate`` without its cache. A configuration names lengths at which a model begins to
behave otherwise (a window, a chunk, the length that rotary factors were made for): sequences lie on both sides of each,
and so does the prefix.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from cr_interp.capture.checks import Check, limit_for
from cr_interp.models import rope
from cr_interp.models.batching import batching
from cr_interp.models.forward import build_view, device_of, hidden_states, run_whole, unwrap
from cr_interp.models.generation import Decoding, respond
from cr_interp.views import shared_prefix

SHORT = 12
NEW_TOKENS = 4


def boundaries(model: nn.Module) -> list[int]:
    """Return the lengths that a model's configuration names, in rising order: windows, chunks, original lengths."""
    found: set[int] = {limit.length for limit in rope.boundaries(unwrap(model))}

    def look(settings: dict[Any, Any]) -> None:
        for key, value in settings.items():
            name = str(key)
            if isinstance(value, dict):
                look(value)
                continue
            if not (
                "window" in name
                or "chunk" in name
                or name in ("original_max_position_embeddings", "local_attention")
            ):
                continue
            for each in value if isinstance(value, list) else [value]:
                # Not the number of layers between windows, nor a switch.
                if isinstance(each, int) and not isinstance(each, bool) and each > 2 and "pattern" not in name:
                    found.add(each)

    config = unwrap(model).config.get_text_config().to_dict()
    look({name: value for name, value in config.items() if name != "max_window_layers"})
    return sorted(found)


def check_running(model: nn.Module, pad_id: int = 0, longest: int = 2048) -> list[Check]:
    """Run all checks of running. Boundaries that no sequence of ``longest`` tokens reaches, or that lie beyond the model's
    positions, are skipped, and the table says so.
    """
    limit = limit_for(next(model.parameters()).dtype)
    checks = [_positions(model, "short sequences", [SHORT, SHORT + 4, SHORT - 3], 5, pad_id, limit)]
    checks.append(
        _decoding(model, "greedy decoding = plain generate", [SHORT, SHORT + 4, SHORT - 3], 5, pad_id, limit)
    )
    positions = getattr(unwrap(model).config.get_text_config(), "max_position_embeddings", None)
    stretches = {limit.length for limit in rope.boundaries(unwrap(model)) if limit.every_length}
    for length in boundaries(model):
        around = f"around {length} tokens"
        most = longest if length in stretches or not isinstance(positions, int) else min(longest, positions)
        if length + 7 > most:
            why = f"no sequence of {most} tokens is longer" + (" (see --longest)" if most == longest else "")
            checks.append(Check(f"lengths {around}", "skipped", where=why))
            continue
        lengths = [n for n in (length + 3, length - 1, length, length + 1) if n > 3]
        common = max(1, min(length // 2, length - 3))
        checks.append(_positions(model, f"lengths {around}", lengths, common, pad_id, limit))
        checks.append(
            _positions(
                model,
                f"a prefix of more than {length} tokens",
                [length + 7, length + 4],
                length + 2,
                pad_id,
                limit,
            )
        )
        across = [n for n in (length - 2, length + 1, length - 4) if n > 2]
        checks.append(
            _decoding(model, f"greedy decoding {around}", across, max(1, min(across) - 2), pad_id, limit)
        )
    return checks


def _positions(
    model: nn.Module, claim: str, lengths: Sequence[int], common: int, pad_id: int, limit: float
) -> Check:
    """Compare final states of sequences of given lengths, in every layout, with those of each sequence by itself."""
    claim = f"{claim}: batch, pads, prefix = one at a time"
    prompts, responses = _asked(model, [n - 1 for n in lengths], common)
    worst, where = -1.0, ""
    with torch.no_grad():
        alone = torch.cat([_alone(model, p, r) for p, r in zip(prompts, responses, strict=True)])
        for padding, shared in _layouts():
            view = build_view(prompts, responses, pad_id, shared, padding)
            found = hidden_states(model, view)
            difference = ((found - alone).float().norm() / alone.float().norm().clamp_min(1e-30)).item()
            if not difference <= worst:
                worst, where = difference, f"{padding} pads, prefix of {len(view.prefix)}"
            if difference != difference:
                break
    return Check(claim, "pass" if worst <= limit else "fail", worst, limit, where)


def _layouts() -> Iterator[tuple[Literal["right", "left"], int | None]]:
    yield from (("right", None), ("right", 0), ("left", None), ("left", 0))


def _alone(model: nn.Module, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    ids = torch.tensor([[*prompt, *response[:-1]]], device=device_of(model))
    return run_whole(model, ids)[0, len(prompt) - 1 :]


def _decoding(
    model: nn.Module, claim: str, lengths: Sequence[int], common: int, pad_id: int, limit: float
) -> Check:
    """Compare greedy responses with the library's. The number is how much less the first differing token is worth to the
    model, as a share of its logits' norm: two tokens worth the same are no difference.
    """
    prompts, _ = _asked(model, lengths, common)
    library = [_library(model, prompt) for prompt in prompts]
    worst, where = 0.0, ""
    for shared in (shared_prefix(prompts), 0):
        found = respond(model, prompts, Decoding(NEW_TOKENS), (), pad_id, prefix_length=shared)
        for prompt, response, wanted in zip(prompts, found, library, strict=True):
            pairs = enumerate(zip(response.ids, wanted, strict=True))
            first = next((i for i, (one, other) in pairs if one != other), None)
            if first is None:
                continue
            scores = _scores(model, [*prompt, *wanted[:first]])
            worse = ((scores[wanted[first]] - scores[response.ids[first]]) / scores.norm()).item()
            if not worse <= worst:
                worst, where = worse, f"token {first + 1} behind {len(prompt)}, prefix of {shared}"
    return Check(claim, "pass" if worst <= limit else "fail", worst, limit, where)


@torch.no_grad()
def _library(model: nn.Module, prompt: Sequence[int]) -> list[int]:
    """Ask ``generate`` for its answer without its cache, which keeps keys whose factors have changed since; or the plain loop,
    for a model that it does not run."""
    inner = unwrap(model)
    ids = torch.tensor([list(prompt)], device=device_of(model))
    own, inner.generation_config = (
        inner.generation_config,
        GenerationConfig(),
    )  # no penalties, and nothing that ends it
    try:
        said = inner.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            use_cache=False,
            pad_token_id=0,
        )
        return said[0, len(prompt) :].tolist()
    except Exception:  # whatever it is that another library lacks
        found = list(prompt)
        for _ in range(NEW_TOKENS):
            found.append(int(_scores(model, found).argmax()))
        return found[len(prompt) :]
    finally:
        inner.generation_config = own


@torch.no_grad()
def _scores(model: nn.Module, ids: Sequence[int]) -> Tensor:
    asked = torch.tensor([list(ids)], device=device_of(model))
    return unwrap(model)(input_ids=asked, use_cache=False).logits[0, -1].float()


def _asked(model: nn.Module, lengths: Sequence[int], common: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return prompts of given lengths that share exactly ``common`` tokens, and a response of two tokens each."""
    generator = torch.Generator().manual_seed(0)
    config = unwrap(model).config.get_text_config()
    words = min(int(config.vocab_size), int(unwrap(model).get_input_embeddings().weight.shape[0]))
    low = min(8, words // 2)

    def ids(n: int) -> list[int]:
        return torch.randint(low, words, (n,), generator=generator).tolist()

    shared = ids(common)
    prompts = []
    for number, length in enumerate(lengths):
        own = ids(max(1, length - common))
        own[0] = low + number % (words - low)
        prompts.append([*shared, *own])
    return prompts, [ids(2) for _ in lengths]


def runs_as_said(model: nn.Module) -> Check:
    """List which short cuts are taken, for the table."""
    way = batching(model)
    taken = [
        "a prefix is shared" if way.prefix else "sequences are run whole",
        {"any": "unequal lengths in a batch", "equal": "one length a batch", "one": "one at a time"}[way.rows],
    ]
    if way.limits:
        taken.append(f"by length beyond {', '.join(str(limit.length) for limit in way.limits)}")
    return Check("how it is run", "pass", where="; ".join(taken))


__all__ = ["boundaries", "check_running", "runs_as_said"]
