"""Ask a model which short cuts are exact for it: two short sequences, with each of them and without any.

The answer must be about the model and not about rounding, so it is asked in the model's own precision with autocast
off, in eval mode, and a difference counts from far above what rounding gives. Short sequences do not reach a window or
a chunk of attention: what the configuration names of these is in :func:`left_counts_right`, and ``cr-interp check``
runs sequences across each.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cr_interp.errors import UserError
from cr_interp.models import rope
from cr_interp.models.batching import Batching
from cr_interp.models.forward import backbone, device_of, encode_keys, run, run_whole, unwrap
from cr_interp.models.layout import build_view
from cr_interp.models.shards import is_sharded

PREFIX, LONG, SHORT = 5, 6, 3
"""Tokens of the prefix that both sequences share, and of what follows in each."""


def find(model: nn.Module) -> Batching | None:
    """Find the short cuts of a model; ``None`` if its states are not finite, so that nothing can be compared."""
    config = unwrap(model).config.get_text_config()
    limits = rope.boundaries(unwrap(model))
    with _quietly(model), torch.no_grad():
        sequences = _sequences(model, config, limits)
        try:
            alone = [run_whole(model, _row(model, ids))[0] for ids in sequences]
        except Exception as error:
            raise UserError(
                f"{type(unwrap(model)).__name__} does not run on token ids alone ({_short(error)}), so it cannot be read "
                f"here. Take a decoder-only language model."
            ) from error
        if not all(bool(torch.isfinite(states).all()) for states in alone):
            return None
        limit = 1e-4 if next(model.parameters()).dtype in (torch.float32, torch.float64) else 0.1

        def same(attempt: Callable[[], Sequence[Tensor]]) -> bool:
            try:
                found = attempt()
            except Exception:  # whatever a model raises when it is run in a way that it does not know
                return False
            return all(_difference(f, a[-len(f) :]) <= limit for f, a in zip(found, alone, strict=True))

        def batched(padding: Any, shared: int) -> list[Tensor]:
            prompts, answers = [ids[:-1] for ids in sequences], [ids[-1:] * 2 for ids in sequences]
            view = build_view(prompts, answers, sequences[0][-1], shared, padding)
            prefix = encode_keys(model, view.prefix)
            states = run(model, prefix, view.ids.to(device_of(model)), view.mask.to(device_of(model)))
            return [states[row][view.mask[row]] for row in range(len(states))]

        def together() -> list[Tensor]:
            longest = max(map(len, sequences))
            ids = torch.cat([_row(model, [*s, *s[-1:] * (longest - len(s))]) for s in sequences])
            return [states[: len(s)] for states, s in zip(run_whole(model, ids), sequences, strict=True)]

        def twins() -> list[Tensor]:
            cut = [ids[: len(sequences[-1])] for ids in sequences]
            states = run_whole(model, torch.cat([_row(model, ids) for ids in cut]))
            # Causal, so the first one's states are those of its beginning.
            return [_padded(states[0], alone[0]), states[1]]

        rows = "any" if same(together) else "equal" if same(twins) else "one"
        prefix = rows == "any" and same(lambda: batched("right", PREFIX)) and same(lambda: batched("right", 0))
        left = prefix and same(lambda: batched("left", PREFIX)) and same(lambda: batched("left", 0))
        return Batching(
            prefix=prefix,
            left=left and left_counts_right(config),
            rows=rows,  # type: ignore[arg-type]
            resumes=same(lambda: [_resumed(model, ids) for ids in sequences]),
            limits=limits,
        )


def how_built(model: nn.Module) -> Hashable | None:
    """Return what two models have in common that allow the same short cuts, whatever their weights; None: ask each.

    The code that runs (every kind of module, so adapters count, with the numbers and switches set on it), the configuration,
    the attention and the precision. Not shared: half precision, whose limit is so wide that small weights may hide what larger
    ones show; a matrix of zeros, behind which nothing shows; weights that are spread, which every process has to run equally
    often; and a model inside which a module's ``forward`` was replaced.
    Hooks do not matter, since a model is asked without them.
    """
    tensors = {(each.dtype, each.device.type) for each in model.parameters()}
    if is_sharded(model) or not {dtype for dtype, _ in tensors} <= {torch.float32, torch.float64}:
        return None
    modules: list[Any] = list(backbone(model).modules())  # what is asked; a Trainer replaces the whole's forward
    if any("forward" in vars(module) for module in modules):
        return None
    if not all(bool(each.any()) for each in model.parameters() if each.ndim > 1):
        return None
    kinds = frozenset((type(module), type(module).forward, _set_on(module)) for module in modules)
    config: Any = model.config
    settings = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
    attention = config.get_text_config()._attn_implementation
    return kinds, repr(settings), attention, frozenset(tensors), rope.boundaries(model)


def _set_on(module: nn.Module) -> Hashable:
    """Return the numbers and switches set on a module: a layer's window may be, without the configuration."""
    plain = {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str)}
    return tuple(sorted((name, value) for name, value in plain.items() if name != "training"))


def left_counts_right(config: Any) -> bool:
    """Tell whether pads on the left can be hidden from every layer. Windows and chunks of attention are counted in columns by
    the library, and by position only where we write the masks: for ``sliding_window``."""
    kinds = set(getattr(config, "layer_types", None) or ())
    ours = {"sliding_window", "use_sliding_window", "max_window_layers", "sliding_window_pattern"}
    others = [
        name
        for name, value in config.to_dict().items()
        if ("window" in name or "chunk" in name) and name.lstrip("_") not in ours and value
    ]
    return kinds <= {"full_attention", "sliding_attention"} and not others


def resume(model: nn.Module, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Run ``ids`` behind what the model's own ``cache`` has seen (``None``: nothing). States, and the cache to go on with.

    Whatever the library calls it: keys and values, the parameters of a state-space model, a recurrent state.
    """
    given = {} if cache is None else {cache[0]: cache[1]}
    outputs = backbone(model)(input_ids=ids, use_cache=True, **given)
    for name in ("past_key_values", "cache_params", "state"):
        if getattr(outputs, name, None) is not None:
            return outputs.last_hidden_state, (name, getattr(outputs, name))
    raise LookupError("no cache came back")


def _resumed(model: nn.Module, ids: Sequence[int]) -> Tensor:
    states, cache = resume(model, _row(model, ids[:-2]), None)
    found = [states[0]]
    for token in ids[-2:]:
        states, cache = resume(model, _row(model, [token]), cache)
        found.append(states[0])
    return torch.cat(found)


def _padded(states: Tensor, like: Tensor) -> Tensor:
    return torch.cat([states, like[len(states) :]])


def _sequences(model: nn.Module, config: Any, limits: Sequence[rope.Boundary]) -> list[list[int]]:
    """Make two sequences with a common start, as short as the model's positions and its rotary factors' ask for."""
    longest = min([PREFIX + LONG, *(b.length for b in limits)])
    positions = getattr(config, "max_position_embeddings", None)
    longest = max(4, min(longest, positions) if isinstance(positions, int) and positions > 3 else longest)
    words = int(unwrap(model).get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    ids: list[int] = torch.randint(min(8, words // 2), words, (longest,), generator=generator).tolist()
    other: list[int] = torch.randint(min(8, words // 2), words, (longest,), generator=generator).tolist()
    common = min(PREFIX, longest - 2)
    return [ids, [*ids[:common], *other[common : max(common + 1, longest - (LONG - SHORT))]]]


def _row(model: nn.Module, ids: Sequence[int]) -> Tensor:
    return torch.tensor([list(ids)], device=device_of(model))


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).float().norm() / expected.float().norm().clamp_min(1e-30))


@contextmanager
def _quietly(model: nn.Module) -> Iterator[None]:
    """Run the block in eval mode, without autocast and without the hooks of the user, who has asked for nothing yet.
    Afterwards all is as it was.
    """
    inner: nn.Module = unwrap(model)
    modules: list[Any] = list(inner.modules())
    modes = [module.training for module in modules]
    needed = is_sharded(model)  # hooks gather the weights
    hooks = [] if needed else [(module._forward_hooks, module._forward_pre_hooks) for module in modules]
    inner.eval()
    try:
        if not needed:
            for module in modules:
                module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
        kind = device_of(model).type
        mixed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if mixed else nullcontext():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for module, (after, before) in [] if needed else zip(modules, hooks, strict=True):
            module._forward_hooks, module._forward_pre_hooks = after, before


def _short(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:160]
