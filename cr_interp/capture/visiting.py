"""Hooks at sites for the time of a ``with`` block, and blocks or attentions that stand still while the rest runs.

Mental model. This does what ``hooks.py`` does for one capture, but for models that are run by other means: decoding, a
forward that starts in the middle, a backward pass. :func:`visiting` calls a function with each site's state and puts back
what it returns. :func:`standing` replaces what a module computes.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from cr_interp.capture.sites import Site, hook_point, order

Visit = Callable[[Tensor], Tensor]
"""State ``[batch, length, width]`` → what stands there from then on."""


@contextmanager
def visiting(model: nn.Module, visits: Mapping[Site, Visit]) -> Iterator[None]:
    """Call each site's function whenever the model computes the state there, in this thread.

    A site ``resid_mid`` has no module of its own: what attention adds is changed instead.
    Raises :class:`~cr_interp.errors.UserError` for a site that the model lacks.
    """
    points = _with_middles(visits)
    handles = []
    try:
        for site, visit in sorted(points, key=lambda each: order(each[0])):
            handles.append(_hooked(model, site, visit))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def standing(stand_ins: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules return what these functions return, instead of computing anything; their hooks still run."""
    before = {module: module.__dict__.get("forward") for module in stand_ins}
    try:
        for module, function in stand_ins.items():
            module.__dict__["forward"] = function
        yield
    finally:
        for module, own in before.items():
            if own is None:
                module.__dict__.pop("forward", None)
            else:  # of a model that somebody has wrapped, as accelerate does to fetch weights
                module.__dict__["forward"] = own


def _with_middles(visits: Mapping[Site, Visit]) -> list[tuple[Site, Visit]]:
    found: list[tuple[Site, Visit]] = []
    for site, visit in visits.items():
        if site.name != "resid_mid":
            found.append((site, visit))
            continue
        held: list[Tensor] = []

        def keep(state: Tensor, held: list[Tensor] = held) -> Tensor:
            held[:] = [state]
            return state

        def change(added: Tensor, held: list[Tensor] = held, visit: Visit = visit) -> Tensor:
            before = held.pop()
            return visit(before + added) - before

        found += [(Site("resid_pre", site.layer), keep), (Site("attn_out", site.layer), change)]
    return found


def _hooked(model: nn.Module, site: Site, visit: Visit) -> Any:
    module, side = hook_point(model, site)
    mine = threading.get_ident()  # another thread's run is none of ours

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        if args:
            return (visit(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": visit(kwargs["hidden_states"])}

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        return (visit(output[0]), *output[1:]) if isinstance(output, tuple) else visit(output)

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)
