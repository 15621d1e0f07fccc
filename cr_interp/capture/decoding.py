"""Decode with edits, so that an edited run can be seen to answer.

    generate(loaded, prompts, decoding, {Site("resid_post", 5): steer(v, 4.0)})           # at every position
    generate(loaded, prompts, decoding, {Site("z", 3): answering(ablate())})               # where it answers, only
    generate(loaded, given, decoding, put=[Site("attn_out", 1)], donors=without)           # the other view's states

Mental model. An edit (``edits.py``) reaches every position, those of the prompt included, unless it is :func:`answering`:
then it reaches the positions that the answer's tokens come from, the prompt's last token and every token that is decoded. The
same positions get the donors' states of ``put``: the donors are the same prompts in another view, and they read whatever
token is decoded here, as if they had said it. A position's keys and values are settled when it is run, so the cache holds a
decoded token as the edit left it. A prompt that is edited at every position is run whole, with the edit: its shared beginning
is not taken from elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cr_interp.capture.edits import Edit, Edits, apply
from cr_interp.capture.locks import model_lock
from cr_interp.capture.sites import Site, check_sites
from cr_interp.capture.visiting import Visit, visiting
from cr_interp.errors import UserError
from cr_interp.models.generation import Decoding, Response, Step, respond, steps
from cr_interp.models.loading import Loaded
from cr_interp.views import check_fits

Inside = Callable[[Step, Sequence[int]], AbstractContextManager[None]]
"""A batch and which prompts it is of → what stands around each of its runs."""


def answering(edit: Edit) -> Edit:
    """Limit an edit to the prompt's last token and every token of the answer."""

    def there(state: Tensor) -> Tensor:
        return edit(state)

    there.answering = True  # type: ignore[attr-defined]
    return there


@torch.no_grad()
def generate(
    loaded: Loaded,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    edits: Edits | None = None,
    put: Sequence[Site] | Mapping[Site, slice] = (),
    donors: Sequence[Sequence[int]] | None = None,
    uniform: Float[Tensor, "prompt token"] | None = None,
    inside: Inside | None = None,
) -> list[Response]:
    """Generate a response per prompt (lists of ids), in order, from the model with ``edits`` and with the ``donors``' states
    at ``put``.

    ``put`` may say which of a site's units are put in, such as a head's slice of ``z``. ``inside`` is entered around every
    run of a batch; with it, as with an edit of every position, no prefix is shared. Raises :class:`UserError` for a site that
    the model lacks, donors that do not match the prompts, and what does not fit.
    """
    model, edits = loaded.model, edits or {}
    units = put if isinstance(put, Mapping) else dict.fromkeys(put, slice(None))
    check_sites(model, [*edits, *units])
    if units and (donors is None or len(donors) != len(prompts)):
        raise UserError(
            f"Putting states in needs a donor for each of {len(prompts)} prompts; found {len(donors or ())}."
        )
    for each in (prompts, donors or ()):
        longest = max(map(len, each), default=0)
        check_fits(
            longest + decoding.max_new_tokens, loaded.max_positions, "The longest prompt with its response"
        )
    everywhere = inside is not None or any(not getattr(edit, "answering", False) for edit in edits.values())

    def wrap(step: Step, rows: Sequence[int]) -> Step:
        beside = None
        if units and donors is not None:
            beside = _Donors(model, [donors[row] for row in rows], units, decoding.max_new_tokens, loaded.pad_id)

        def around() -> AbstractContextManager[None]:
            return nullcontext() if inside is None else inside(step, rows)

        return _Edited(model, step, edits, beside, around)

    with model_lock(model):
        return respond(
            model, prompts, decoding, loaded.eos_ids, loaded.pad_id, uniform, 0 if everywhere else None, wrap=wrap
        )


class _Donors:
    """The other view's batch, which says nothing of its own, and its states at the places of the answer so far."""

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Sequence[int]],
        units: Mapping[Site, slice],
        most: int,
        pad_id: int,
    ) -> None:
        self.model, self.units = model, units
        self.parts = steps(model, prompts, most, pad_id)
        self.back = torch.tensor([row for rows, _ in self.parts for row in rows]).argsort()
        self.held: list[dict[Site, Tensor]] = [{} for _ in self.parts]
        self.said = 1

    def run(self) -> None:
        for (_, step), held in zip(self.parts, self.held, strict=True):
            with visiting(self.model, {site: self._keep(site, held) for site in self.units}):
                step.states()

    def _keep(self, site: Site, held: dict[Site, Tensor]) -> Visit:
        def visit(state: Tensor) -> Tensor:
            new = state[:, -self.said :]
            before = held.get(site, new[:, :0])[:, : self.said - new.shape[1]]
            held[site] = torch.cat([before, new], dim=1)
            return state

        return visit

    def states(self, site: Site) -> Float[Tensor, "batch answer width"]:
        """Return the states at the places of the answer so far, in the order of the prompts."""
        found = torch.cat([held[site] for held in self.held])
        return found[self.back.to(found.device)]

    def add(self, token: Int[Tensor, " batch"]) -> None:
        self.said += 1
        for rows, step in self.parts:
            step.add(token[torch.tensor(rows, device=token.device)])


class _Edited:
    """A batch whose runs are edited."""

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        edits: Edits,
        donors: _Donors | None,
        around: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.model, self.step, self.edits, self.donors, self.around = model, step, edits, donors, around
        self.said = 1

    @property
    def ids(self) -> Int[Tensor, "batch length"]:
        return self.step.ids

    def states(self) -> Float[Tensor, "batch width"]:
        visits: dict[Site, Visit] = {site: self._edit(site, edit) for site, edit in self.edits.items()}
        if self.donors is not None:
            self.donors.run()
            for site, units in self.donors.units.items():
                visits[site] = self._put(self.donors.states(site), units, visits.get(site))
        with visiting(self.model, visits), self.around():
            return self.step.states()

    def add(self, token: Int[Tensor, " batch"]) -> None:
        self.said += 1
        self.step.add(token)
        if self.donors is not None:
            self.donors.add(token)

    def _edit(self, site: Site, edit: Edit) -> Visit:
        if not getattr(edit, "answering", False):
            return lambda state: apply(site, edit, state)
        return lambda state: torch.cat([state[:, : -self.said], apply(site, edit, state[:, -self.said :])], dim=1)

    def _put(self, states: Float[Tensor, "batch answer width"], units: slice, then: Visit | None) -> Visit:
        def visit(state: Tensor) -> Tensor:
            here = min(self.said, state.shape[1])
            new = state.clone()
            new[:, -here:, units] = states[:, -here:, units].to(state)
            return new if then is None else then(new)

        return visit
