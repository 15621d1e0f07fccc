"""Capture hidden states at the aligned positions: one interface, interchangeable backends.

    states = capture(model, view, [Site("resid_post", 3)])       # {site: [token, width]}

The LM head is not run, the shared prefix is computed once, and only aligned positions are kept. A caller that wants
every layer of many batches streams them into accumulators (``cr_interp.similarity``); nothing here keeps a list.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture import hooks
from cr_interp.errors import unknown
from cr_interp.forward import Prefix, ViewBatch
from cr_interp.sites import Site

Backend = Literal["hooks"]
BACKENDS = {"hooks": hooks.capture}


def capture(
    model: nn.Module, view: ViewBatch, sites: Sequence[Site], prefix: Prefix | None = None, backend: str = "hooks"
) -> dict[Site, Float[Tensor, "token width"]]:
    """States of ``sites`` at the aligned positions of ``view``, rows in the order of ``view.targets``.

    ``prefix`` may hold the keys and values of ``view.prefix`` from an earlier batch. No gradients.
    """
    if backend not in BACKENDS:
        raise unknown("capture backend", backend, BACKENDS)
    return BACKENDS[backend](model, view, sites, prefix)
