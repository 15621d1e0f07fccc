"""The default backend: plain forward hooks on the Hugging Face modules."""

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.forward import Prefix, ViewBatch, device_of, encode_prefix, run
from cr_interp.sites import Site, hook_point

#: Hooks live on the model itself, so two captures of one model at once would read each other's states.
_LOCKS: "WeakKeyDictionary[nn.Module, threading.RLock]" = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def model_lock(model: nn.Module) -> threading.RLock:
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, threading.RLock())


@torch.no_grad()
def capture(
    model: nn.Module, view: ViewBatch, sites: Sequence[Site], prefix: Prefix | None = None
) -> dict[Site, Float[Tensor, "token width"]]:
    device = device_of(model)
    rows, columns = view.rows.to(device), view.columns.to(device)
    found: dict[Site, Tensor] = {}

    def keep(site: Site, state: Any) -> None:
        tensor = state[0] if isinstance(state, tuple) else state
        found[site] = tensor[rows.to(tensor.device), columns.to(tensor.device)]

    with model_lock(model):
        if prefix is None or prefix.ids != view.prefix:
            prefix = encode_prefix(model, view.prefix)  # before hooking: its states are not wanted
        handles = []
        try:
            for site in sites:
                module, side = hook_point(model, site)
                if side == "input":
                    handles.append(
                        module.register_forward_pre_hook(
                            lambda _m, args, kwargs, site=site: keep(
                                site, args[0] if args else kwargs["hidden_states"]
                            ),
                            with_kwargs=True,
                        )
                    )
                else:
                    handles.append(
                        module.register_forward_hook(lambda _m, _args, output, site=site: keep(site, output))
                    )
            run(model, prefix, view.ids.to(device), view.mask.to(device))
        finally:
            for handle in handles:
                handle.remove()
    return found
