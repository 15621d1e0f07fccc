"""The default backend, and the fastest: plain forward hooks on the Hugging Face modules.

The forward pass ends as soon as the last stop has been visited.
"""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture.attention import Cut, cutting
from cr_interp.capture.edits import Edits
from cr_interp.capture.recorder import Recorder
from cr_interp.capture.sites import Site, hook_point
from cr_interp.models.forward import Prefix, ViewBatch, device_of, run, unwrap


class _Done(Exception):
    """Raised inside the model when there is nothing left to see."""


def capture(
    model: nn.Module,
    view: ViewBatch,
    sites: Sequence[Site],
    prefix: Prefix,
    edits: Edits,
    cut: Cut | None = None,
) -> dict[Site, Float[Tensor, "token width"]]:
    device = device_of(model)
    recorder = Recorder(model, view, sites, edits, device)
    # Offloaded models move weights in hooks after each module, which a forward cut short would skip.
    last = recorder.stops[-1] if not hasattr(unwrap(model), "hf_device_map") else None
    handles = []
    try:
        for site in recorder.stops:
            handles.append(_hook(model, site, recorder, stop=site == last))
        with nullcontext() if cut is None else cutting(model, cut.layers, cut.blocked(len(prefix.ids))):
            run(model, prefix, view.ids.to(device), view.mask.to(device))
    except _Done:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return recorder.result(sites)


def _hook(model: nn.Module, site: Site, recorder: Recorder, stop: bool) -> Any:
    module, side = hook_point(model, site)
    # A thread that runs the model without capturing holds no lock; its states are none of ours.
    mine = threading.get_ident()

    def visit(state: Tensor) -> Tensor:
        state = recorder.visit(site, state)
        if stop:
            raise _Done
        return state

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        state = visit(args[0] if args else kwargs["hidden_states"])
        if not recorder.changes(site):
            return None
        return ((state, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state})

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        several = isinstance(output, tuple)
        state = visit(output[0] if several else output)
        if not recorder.changes(site):
            return None
        return (state, *output[1:]) if several else state

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)
