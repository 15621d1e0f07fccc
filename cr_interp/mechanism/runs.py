"""Runs of a view with some states put in, as short as they can be.

Mental model. :meth:`Run.states` reads a view's states at some sites; :meth:`Run.final` gives its last states with others put
in at the aligned positions of some sites. There are two ways, which agree:

    Restarted   only the aligned positions, behind kept keys and values, and only from where something was put in: the states
                before it are known. Nothing is computed that is overwritten: neither an attention whose output is put in, nor
                the block whose MLP's output is.
    Captured    through ``capture`` with edits, from the first block on: for models that pads or prefixes would change, for
                architectures whose blocks are not known, and for the other backends.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture import capture, model_lock, patch
from cr_interp.capture.recorder import check_finite
from cr_interp.capture.sites import ARCHITECTURES, Site, architecture, blocks, place
from cr_interp.capture.visiting import standing, visiting
from cr_interp.models.aligned import AlignedRows, keeps
from cr_interp.models.forward import Prefix, ViewBatch

States = Float[Tensor, "token width"]
FINAL = Site("final", -1)


class Run(Protocol):
    """One view of a batch."""

    view: ViewBatch

    def states(self, sites: Sequence[Site]) -> dict[Site, States]:
        """Return the view's own states. A later :meth:`final` may put states in at these sites, until others are read."""
        ...

    def final(self, put: Mapping[Site, States] = {}) -> States:
        """Return the states after the last norm, with ``put`` in place of the view's own."""
        ...


def restarts(model: nn.Module, longest: int, backend: str = "hooks") -> bool:
    """Tell whether sequences of this model can be run from the middle on."""
    known = any(architecture(model) is each for each in ARCHITECTURES.values())
    return backend == "hooks" and known and keeps(model, longest)


class Captured:
    def __init__(self, model: nn.Module, view: ViewBatch, prefix: Prefix, backend: str = "hooks") -> None:
        self.model, self.view, self.prefix, self.backend = model, view, prefix, backend

    def states(self, sites: Sequence[Site]) -> dict[Site, States]:
        return capture(self.model, self.view, sites, self.prefix, self.backend)

    def final(self, put: Mapping[Site, States] = {}) -> States:
        edits = {site: patch(states, self.view.rows, self.view.columns) for site, states in put.items()}
        return capture(self.model, self.view, [FINAL], self.prefix, self.backend, edits)[FINAL]


class Restarted:
    def __init__(self, model: nn.Module, view: ViewBatch, rows: AlignedRows) -> None:
        self.model, self.view, self.rows = model, view, rows
        self.parallel = architecture(model).parallel
        self.blocks = blocks(model)
        self.known: dict[Site, States] = {}

    def states(self, sites: Sequence[Site]) -> dict[Site, States]:
        found: dict[Site, States] = {}

        def keep(site: Site) -> Callable[[Tensor], Tensor]:
            def visit(state: Tensor) -> Tensor:
                found[site] = self.rows.tokens(state)
                return state

            return visit

        wanted = list(dict.fromkeys([*sites, *(need for site in sites for need in self._needs(site))]))
        if FINAL in self.known and all(site in self.known for site in wanted):
            return {site: self.known[site] for site in sites}
        ended = [site for site in wanted if site != FINAL]
        self.known = {}
        with (
            model_lock(self.model),
            visiting(self.model, {site: keep(site) for site in ended if site.name != "resid_mid"}),
        ):
            found[FINAL] = self.rows.tokens(self.rows.run())
        for site in wanted:
            if site.name == "resid_mid":
                found[site] = found[Site("resid_pre", site.layer)] + found[Site("attn_out", site.layer)]
        check_finite(found, self.view)
        self.known = found
        return {site: found[site] for site in sites}

    def _needs(self, site: Site) -> list[Site]:
        """List what has to be known to go on from a site."""
        if site.name in ("resid_post", "final"):
            return []
        parts = ["resid_pre", "attn_out"] + (["mlp_out"] if self.parallel else [])
        return [Site(name, site.layer) for name in parts]  # type: ignore[arg-type]

    def final(self, put: Mapping[Site, States] = {}) -> States:
        if not put:
            if FINAL not in self.known:
                self.states([])
            return self.known[FINAL]
        start, state = self._start(put)
        rest = {
            site: states
            for site, states in put.items()
            if site.layer >= start and site != Site("resid_pre", start)
        }
        visits = {site: self._put(states) for site, states in rest.items() if site.name != "z"}
        if not start and state is not None:
            visits[Site("resid_pre", 0)] = self._put(state)
        still = standing({**self._passed(start, state), **self._stood(rest)})
        with model_lock(self.model), still, visiting(self.model, visits):
            found = self.rows.tokens(self.rows.run())
        check_finite({FINAL: found}, self.view)
        return found

    def _start(self, put: Mapping[Site, States]) -> tuple[int, States | None]:
        """Return the first block to run, and the stream that enters it (None: what the embedding gives)."""
        layer = min(site.layer for site in put)
        here = {site.name: states for site, states in put.items() if site.layer == layer}

        def own(name: Any) -> States:
            return here[name] if name in here else self.known[Site(name, layer)]

        if "resid_post" in here:
            return layer + 1, here["resid_post"]
        if not {"resid_pre", "resid_mid", "z"} & here.keys() and ("mlp_out" in here or self.parallel):
            return layer + 1, own("resid_pre") + own("attn_out") + own("mlp_out")
        if layer or "resid_pre" in here:
            return layer, own("resid_pre")
        return 0, None

    def _passed(self, start: int, state: States | None) -> dict[nn.Module, Callable[..., Any]]:
        """Let blocks before the start hand on what they get, and the last of them the state."""
        if not start or state is None:
            return {}
        canvas = self.rows.canvas(state)

        def enter(*_args: Any, **_kwargs: Any) -> Tensor:
            return canvas

        def hand_on(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
            return hidden_states

        return {
            block: enter if layer == start - 1 else hand_on for layer, block in enumerate(self.blocks[:start])
        }

    def _stood(self, put: Mapping[Site, States]) -> dict[nn.Module, Callable[..., Any]]:
        """Let attentions and MLPs of which nothing is left stand still."""
        found: dict[nn.Module, Callable[..., Any]] = {}
        z = place(self.model, "z")
        assert z is not None  # every architecture of the table has one
        outside, _, _ = z.path.rpartition(".")
        for site, states in put.items():
            block = self.blocks[site.layer]
            if site.name == "mlp_out":
                found[block.get_submodule("mlp")] = torch.zeros_like
            elif site.name in ("z", "attn_out", "resid_mid"):
                attention = block.get_submodule(outside)
                if site.name == "z":
                    found[attention] = self._attended(block.get_submodule(z.path), states)
                else:
                    found.setdefault(attention, self._attended(None, states))
        return found

    def _attended(self, project: nn.Module | None, states: States) -> Callable[..., Any]:
        canvas = self.rows.canvas(states)

        def attend(*_args: Any, **_kwargs: Any) -> tuple[Tensor, None]:
            return (canvas if project is None else project(canvas)), None

        return attend

    def _put(self, states: States) -> Callable[[Tensor], Tensor]:
        rows, columns = self.rows.rows, self.rows.columns

        def visit(state: Tensor) -> Tensor:
            changed = state.clone()
            changed[rows.to(state.device), columns.to(state.device)] = states.to(state)
            return changed

        return visit
