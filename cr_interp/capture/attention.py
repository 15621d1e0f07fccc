"""Attention at work: tokens that are kept from reading others, and the weights with which they read.

Mental model. In every layer each token (the *reader*) spreads a weight of 1 over the tokens up to itself (the *keys*). A
:class:`Cut` sets the scores of some keys to −∞ for some readers in some layers, before the softmax: the weight goes to what
is left. A token always reads itself, so that there is something left.

    capture(model, view, sites, cut=Cut(layers={3}, readers=…, keys=…))      # [batch, prefix + length], True: this token

Weights exist in eager attention only, so the model runs in it for the time (:func:`eager`); a kernel that never has them in
memory is refused. Keys of a shared prefix can be cut like any other: the prefix stays as it is, unless its own tokens are
readers too. Then it is run again with the cut.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cr_interp.capture.sites import ARCHITECTURES, Site, architecture, blocks, check_site, path
from cr_interp.errors import UserError
from cr_interp.models.batching import Part
from cr_interp.models.forward import Prefix, ViewBatch, backbone, encode_prefix, unwrap

Blocked = Bool[Tensor, "batch query key"]


@dataclass(frozen=True)
class Cut:
    """Keys that some readers lose, and the layers where they lose them. Columns are a view's whole sequences: the prefix, then
    ``view.ids``.
    """

    layers: frozenset[int]
    readers: Bool[Tensor, "batch column"]
    keys: Bool[Tensor, "batch column"]

    def blocked(self, start: int, end: int | None = None) -> Blocked:
        """Mask what the readers from column ``start`` on may not read, of all columns before ``end``; a token reads itself."""
        readers, keys = self.readers[:, start:end], self.keys[:, :end]
        own = torch.arange(keys.shape[1], device=keys.device)
        itself = own[start:][:, None] == own[None]
        return readers[:, :, None] & keys[:, None] & ~itself

    def in_prefix(self, length: int) -> bool:
        """Tell whether tokens of a prefix of that length lose something."""
        return bool((self.readers[:, :length].any(-1) & self.keys[:, :length].any(-1)).any())

    def same_in_prefix(self, length: int) -> bool:
        """Tell whether all rows are cut alike there."""
        return all(bool((each[:, :length] == each[:1, :length]).all()) for each in (self.readers, self.keys))

    def of_part(self, view: ViewBatch, part: Part) -> "Cut":
        """Return the same cut for a part of the view, which is laid out differently."""
        start = len(view.prefix)

        def there(columns: Tensor) -> Tensor:
            moved = torch.cat([columns[:, start:], columns[:, :start]], dim=1)[part.row_of]
            own = moved.gather(1, part.column_of) & part.view.mask
            return torch.cat([columns[part.row_of, :start], own], dim=1) if part.view.prefix else own

        return Cut(self.layers, there(self.readers), there(self.keys))


def check_cut(model: nn.Module, view: ViewBatch, cut: Cut) -> None:
    """Raise :class:`UserError` for layers that the model lacks, or for a cut of another shape than the view."""
    for layer in cut.layers:
        check_site(model, Site("resid_post", layer))
    shape = (len(view.ids), len(view.prefix) + view.ids.shape[1])
    for each in (cut.readers, cut.keys):
        if tuple(each.shape) != shape:
            raise UserError(
                f"A cut of this view says True or False for {shape} (batch, columns); found {tuple(each.shape)}."
            )


def attention_path(model: nn.Module, layer: int) -> str:
    """Return the attention of a layer, as a dotted path inside the backbone.

    Raises :class:`UserError` for an architecture of which no attention is known.
    """
    if not any(architecture(model) is each for each in ARCHITECTURES.values()):
        kind = unwrap(model).config.get_text_config().model_type
        raise UserError(
            f"Where the attention of this model (type '{kind}') is, is not known, so nothing can be cut off or read there. Known "
            f"are {', '.join(sorted(ARCHITECTURES))}; teach cr_interp/capture/sites.py another, or explain it without "
            f"knockout (--analyses)."
        )
    return path(model, Site("z", layer))[0].rpartition(".")[0]


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Let the model attend in plain matrix products, whose weights can be seen. Whoever calls it holds the model's lock.

    Raises :class:`UserError` for a model that was loaded with a kernel that has no weights (flash attention).
    """
    inner = unwrap(model)
    before = str(inner.config._attn_implementation or "")
    if before not in ("eager", "sdpa"):
        raise UserError(
            f"This model attends through '{before}', which has no attention weights in memory; knockout and attention mass need "
            f'them: load it with attn_implementation="eager" (or "sdpa").'
        )
    if before == "eager":
        yield
        return
    inner.set_attn_implementation("eager")
    try:
        yield
    finally:
        inner.set_attn_implementation(before)


def cut_off(mask: Any, blocked: Blocked) -> Tensor:
    """Return an additive mask ``[batch, 1, query, key]`` with more keys hidden."""
    if not isinstance(mask, Tensor) or not mask.is_floating_point() or mask.shape[-2:] != blocked.shape[-2:]:
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise UserError(
            f"This model does not hand its attention a mask of scores for {tuple(blocked.shape[1:])} (query, key) tokens (found "
            f"{found}), so nothing can be cut off in it."
        )
    return mask.masked_fill(blocked[:, None].to(mask.device), torch.finfo(mask.dtype).min)


@contextmanager
def cutting(
    model: nn.Module, layers: Collection[int], blocked: Blocked | Callable[[int, int], Blocked]
) -> Iterator[None]:
    """Hide keys in some layers from whatever this thread runs, by way of hooks; the model attends eagerly meanwhile.

    ``blocked`` may be a function of the numbers of queries and keys, for runs that grow.
    """

    mine = threading.get_ident()

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        mask = kwargs.get("attention_mask")
        shape = tuple(mask.shape[-2:]) if isinstance(mask, Tensor) else (0, 0)
        hidden = blocked if isinstance(blocked, Tensor) else blocked(*shape)
        return args, {**kwargs, "attention_mask": cut_off(mask, hidden)}

    handles = []
    try:
        for layer in layers:
            module = backbone(model).get_submodule(attention_path(model, layer))
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def prefix_with(model: nn.Module, ids: Sequence[int], cut: Cut) -> Prefix:
    """Run a prefix whose own tokens are readers of a cut that is the same in all rows."""
    blocked = cut.blocked(0, len(ids))[:1]
    with cutting(model, cut.layers, blocked):
        return encode_prefix(model, ids)


@contextmanager
def weights(
    model: nn.Module, seen: Callable[[int, Float[Tensor, "batch head query key"]], None]
) -> Iterator[None]:
    """Call ``seen(layer, weights)`` after every layer's attention of this thread's runs; the model attends eagerly meanwhile."""

    mine = threading.get_ident()

    def after(layer: int) -> Callable[..., None]:
        def look(_module: nn.Module, _args: Any, output: Any) -> None:
            if threading.get_ident() != mine:
                return
            found = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            if not isinstance(found, Tensor) or found.dim() != 4:
                raise UserError(
                    f"The attention of layer {layer} of {type(unwrap(model)).__name__} does not give its weights, so there is no "
                    f"attention mass to look at."
                )
            seen(layer, found)

        return look

    handles = []
    try:
        for layer in range(len(blocks(model))):
            module = backbone(model).get_submodule(attention_path(model, layer))
            handles.append(module.register_forward_hook(after(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()
