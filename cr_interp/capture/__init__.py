"""Capture hidden states at the aligned positions: one interface, interchangeable backends.

    states = capture(model, view, [Site("resid_post", 3)])                     # {site: [token, width]}
    states = capture(model, view, sites, edits={Site("z", 3): ablate()})       # … of an edited model

The LM head is not run, the shared prefix is computed once, and only aligned positions are kept. A caller that wants
every layer of many batches streams them into accumulators (``cr_interp.similarity``); nothing here keeps a list.

``hooks`` is the default and the fastest. ``transformer_lens`` and ``nnsight`` give the same states (``cr-interp check``
compares them on your own model) by way of those libraries, and ``nnsight`` can also ask a server (``remote=True``).
States keep the model's dtype and device.

    sites, states_of                     where a site lives in a model; what the public interface calls all this
    hooks, transformer_lens, nnsight     the backends; ``ndif`` is nnsight's on a server
    recorder, visiting                   what happens at a site; hooks for the time of a block
    edits, attention, decoding           what is changed: states, who reads whom; and answers of a model so changed
    copies, locks                        copies that share their weights; one capture at a time per model
    states                               states on disk
    check → checks, check_running        is a site what its name says? does it matter how a model is run?
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture.attention import Cut, check_cut, eager, prefix_with
from cr_interp.capture.edits import Edits, ablate, at, in_columns_of, is_local, patch, steer
from cr_interp.capture.locks import model_lock
from cr_interp.capture.recorder import check_finite as refuse_not_finite
from cr_interp.capture.sites import Site, check_sites
from cr_interp.errors import UserError, unknown
from cr_interp.models.batching import in_order, parts
from cr_interp.models.forward import Prefix, ViewBatch, encode_prefix

__all__ = ["BACKENDS", "Backend", "Cut", "Edits", "ablate", "at", "capture", "model_lock", "patch", "steer"]

Backend = Literal["hooks", "transformer_lens", "nnsight"]
#: Each in a module of its own, imported when first asked for.
BACKENDS: dict[str, str] = {
    "hooks": "cr_interp.capture.hooks",
    "transformer_lens": "cr_interp.capture.transformer_lens",
    "nnsight": "cr_interp.capture.nnsight",
}


@torch.no_grad()
def capture(
    model: nn.Module,
    view: ViewBatch,
    sites: Sequence[Site],
    prefix: Prefix | None = None,
    backend: str = "hooks",
    edits: Edits | None = None,
    *,
    cut: Cut | None = None,
    check_finite: bool = True,
    remote: bool | str = False,
) -> dict[Site, Float[Tensor, "token width"]]:
    """Capture the states of ``sites`` at the aligned positions of ``view``, rows in the order of ``view.targets``. No
    gradients.

    ``prefix`` may hold the keys and values of ``view.prefix`` from an earlier batch. ``edits`` maps sites to functions of the
    state there, ``[batch, length, width]``, at every position of every sequence; see ``capture/edits.py``. ``cut`` keeps some
    tokens from attending to others; see ``capture/attention.py``. What a row gives does not depend on which others are in the
    view. States with NaN or infinity raise :class:`~cr_interp.errors.NotFinite` (a ``UserError``) unless
    ``check_finite=False``. ``remote=True`` asks NDIF, with the nnsight backend; see ``capture/ndif.py``.
    """
    if backend not in BACKENDS:
        raise unknown("capture backend", backend, BACKENDS)
    if remote and backend != "nnsight":
        raise UserError(
            f"Remote capture goes through nnsight; use backend='nnsight' with remote={remote!r}, not '{backend}'."
        )
    check_sites(model, [*sites, *(edits or {})])
    if cut is not None:
        check_cut(model, view, cut)
        if remote:
            raise UserError("What a server's model attends to cannot be cut off; run it here (remote=False).")
    with model_lock(model), nullcontext() if cut is None else eager(model):
        if remote:
            from cr_interp.capture import ndif

            def there(
                model: nn.Module, view: ViewBatch, sites: Sequence[Site], _: Prefix, edits: Edits, cut: None
            ) -> dict[Site, Tensor]:
                return ndif.capture(model, view, sites, edits, remote)

            found = _run(there, model, view, sites, None, edits or {}, None)
        elif not sites:
            found = {}
        else:
            found = _run(import_module(BACKENDS[backend]).capture, model, view, sites, prefix, edits or {}, cut)
    if check_finite:
        refuse_not_finite(found, view)
    return found


def _run(
    backend: Callable[..., dict[Site, Tensor]],
    model: nn.Module,
    view: ViewBatch,
    sites: Sequence[Site],
    prefix: Prefix | None,
    edits: Edits,
    cut: Cut | None,
) -> dict[Site, Float[Tensor, "token width"]]:
    """Run one forward, or as many as it takes so that no row depends on the others (``models/batching.py``).

    An edit that reaches the prefix reaches it in every row: then the sequences are run whole. So they are if the rows' cuts
    differ among the prefix's own tokens; if they are alike, the prefix is run with the cut.
    """
    readers = cut is not None and cut.in_prefix(len(view.prefix))
    everywhere = any(not is_local(edit) for edit in edits.values())
    everywhere |= readers and cut is not None and not cut.same_in_prefix(len(view.prefix))
    divided = parts(model, view, whole=everywhere)
    shared = view.prefix if divided is None or divided[0].view.prefix else ()
    if readers and shared and cut is not None:
        prefix = prefix_with(model, shared, cut)
    elif prefix is None or prefix.ids != shared:
        prefix = encode_prefix(model, shared)
    if divided is None:
        return backend(model, view, sites, prefix, edits, cut)
    found = [
        backend(
            model,
            part.view,
            sites,
            prefix,
            in_columns_of(view, part, edits),
            None if cut is None else cut.of_part(view, part),
        )
        for part in divided
    ]
    return {site: in_order(divided, [states[site] for states in found]) for site in sites}
