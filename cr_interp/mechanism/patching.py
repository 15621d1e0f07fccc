"""Patching: put a state of one view into the other, and see whether the answer follows.

Mental model. A *receiver* runs, and at one site its states at all aligned positions are replaced by the *donor's*, another
view of the same prompt on the same answer (the one without the context). Everything else is the receiver's own.

    repair   donor: without the context    receiver: with it       is the answer without the context back?
    break    donor: with the context       receiver: without it    is that answer gone?

Two read-outs. At the first place where the two answers part: the difference of the logits of their tokens, of which the
donor has one value, the receiver another, and the patched run a third: (patched − receiver) / (donor − receiver), which
is 1 where the patch does everything, 0 where it does nothing, and may be more or less. And whether the whole answer
follows: the argmax equals the answer at every position (``repair``), or no longer does (``break``).

Controls at the same site and positions: the receiver's own state moved as far in a random direction, and the donor's state
of another example at the same place. Nothing before the aligned positions changes, so the shared prefix is computed once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cr_interp.capture import capture, patch
from cr_interp.capture.sites import Site, available, blocks, check_site
from cr_interp.errors import UserError
from cr_interp.mechanism.estimates import estimates
from cr_interp.mechanism.given import Answers, Pair
from cr_interp.models.forward import Prefix, ViewBatch, build_view, encode_prefix, logits
from cr_interp.models.loading import Loaded
from cr_interp.views import shared_prefix

#: direction → (donor, receiver)
DIRECTIONS = {"repair": ("no_context", "with_context"), "break": ("with_context", "no_context")}
CONTROLS = ("none", "random", "other")
FINAL = Site("final", -1)
#: Tokens whose logits are held at a time: a vocabulary is wide.
CHUNK = 512

States = Float[Tensor, "token width"]


def rows(given: Answers) -> dict[str, pd.DataFrame]:
    """The tables ``patching_examples`` and ``patching`` of one checkpoint."""
    options = given.options
    found = patch_pairs(
        given.loaded, given.pairs, patched_sites(given.loaded, options.sites), batch_size=options.batch_size,
        backend=options.backend, progress=given.progress,
    )  # fmt: skip
    return {"patching_examples": found, "patching": estimates(found)}


def patched_sites(loaded: Loaded, names: Sequence[str]) -> list[Site]:
    """Every layer's sites of some kinds, layer by layer; with ``resid_post`` the embedding as well, where the curve begins.

    Raises :class:`UserError` for a kind that the model lacks.
    """
    layers = range(len(blocks(loaded.model)))
    kinds = [name for name in available(loaded.model) if name in names]
    for name in names:
        if name not in kinds:
            check_site(loaded.model, Site(name, 0))  # type: ignore[arg-type]
    sites = [Site(name, layer) for layer in layers for name in kinds]
    return [Site("resid_pre", 0), *sites] if "resid_post" in kinds and "resid_pre" not in kinds else sites


@torch.no_grad()
def patch_pairs(
    loaded: Loaded,
    pairs: Sequence[Pair],
    sites: Sequence[Site],
    directions: Sequence[str] = tuple(DIRECTIONS),
    controls: Sequence[str] = CONTROLS,
    batch_size: int = 64,
    backend: str = "hooks",
    padding: str = "right",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """A row per example, direction, site and control.

    ``received``, ``given``, ``patched`` are the logit of the answer's token minus that of the other view's token, at the place
    where the answers part, in the receiver's run, the donor's and the patched one (NaN where they do not part). ``answer``
    says whether the whole answer followed, ``before`` whether that was so without the patch.

    Examples whose answer is not what the model itself decodes greedily are left out.
    Raises :class:`UserError` if these are more than half, and for exhausted memory (with what to lower).
    """
    cells = len(sites) * len(directions) * len(controls)
    total, done = cells * sum(len(pair.response) for pair in pairs), 0
    found: list[pd.DataFrame] = []
    try:
        views = _Views(loaded, pairs, padding, backend)
        _check_own(loaded, [batch.read("no_context").whole for batch in views.batches(batch_size)])
        for batch in views.batches(batch_size):
            usual = {view: batch.read(view) for view in batch.views}
            usable = usual["no_context"].whole
            for name, states in batch.by_layer(sites):
                for direction in directions:
                    donor, receiver = DIRECTIONS[direction]
                    for control in controls:
                        kept = usable.clone()
                        new = _replacement(batch, name, states, donor, receiver, control, kept)
                        read = batch.read(receiver, name, new)
                        found.append(_rows(batch, kept, direction, name, control, usual, read))
                        done += len(batch.tokens)
                        progress(done, total)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise UserError(
                f"Out of memory while patching batches of {batch_size} examples. Take smaller ones, for example --batch-size "
                f"{max(1, batch_size // 2)}; the checkpoints that are done are kept."
            ) from error
        raise
    return pd.concat(found, ignore_index=True)


def _check_own(loaded: Loaded, whole: Sequence[Tensor]) -> None:
    own = torch.cat(list(whole))
    if int((~own).sum()) * 2 > len(own):
        raise UserError(
            f"{int((~own).sum())} of {len(own)} answers without the context are not what {loaded.name} decodes greedily. "
            f"Explaining needs greedy answers (temperature 0) of this very checkpoint: evaluate it again."
        )


@dataclass(frozen=True)
class _Read:
    """What a run says of each example of a batch."""

    difference: Float[Tensor, " example"]
    whole: Bool[Tensor, " example"]


@dataclass(frozen=True)
class _Batch:
    loaded: Loaded
    pairs: Sequence[Pair]
    views: dict[str, ViewBatch]
    prefixes: dict[str, Prefix]
    backend: str

    @property
    def tokens(self) -> Tensor:
        """Which example each aligned position is of; the same in both views."""
        return self.views["no_context"].rows

    def by_layer(self, sites: Sequence[Site]) -> Iterator[tuple[Site, dict[str, States]]]:
        """Every site with its states in both views; only one layer's are held at a time."""
        for layer in dict.fromkeys(site.layer for site in sites):
            mine = [site for site in sites if site.layer == layer]
            states = {view: self.run(view, mine) for view in self.views}
            for site in mine:
                yield site, {view: found[site] for view, found in states.items()}

    def run(self, view: str, sites: Sequence[Site], edits: object = None) -> dict[Site, States]:
        return capture(
            self.loaded.model, self.views[view], sites, self.prefixes[view], self.backend, edits  # type: ignore[arg-type]
        )  # fmt: skip

    def read(self, view: str, site: Site | None = None, states: States | None = None) -> _Read:
        """The read-outs of a view, with ``states`` at the aligned positions of ``site`` if they are given."""
        batch = self.views[view]
        edits = None if site is None or states is None else {site: patch(states, batch.rows, batch.columns)}
        final = self.run(view, [FINAL], edits)[FINAL]
        count = len(self.pairs)
        difference = torch.full((count,), float("nan"), dtype=torch.float64)
        whole = torch.ones(count, dtype=torch.bool)
        starts = torch.cat([torch.zeros(1, dtype=torch.long), self.tokens.bincount(minlength=count).cumsum(0)])
        at = {int(starts[i]) + p.place: (i, p) for i, p in enumerate(self.pairs) if p.place is not None}
        for first in range(0, len(final), CHUNK):
            scores = logits(self.loaded.model, self._for_head(final[first : first + CHUNK])).float().cpu()
            right = scores.argmax(-1) == batch.targets[first : first + CHUNK]
            whole[self.tokens[first : first + CHUNK][~right]] = False
            for token in range(first, first + len(scores)):
                if token in at:
                    row, pair = at[token]
                    of = scores[token - first].double()
                    difference[row] = of[pair.own] - of[pair.other]
        return _Read(difference, whole)

    def _for_head(self, states: States) -> States:
        weight = self.loaded.model.get_output_embeddings().weight
        return states.to(weight.device, weight.dtype)


class _Views:
    """All pairs in both views, in batches of about equal size, behind a prefix that is computed once."""

    def __init__(self, loaded: Loaded, pairs: Sequence[Pair], padding: str, backend: str) -> None:
        self.loaded, self.pairs, self.padding, self.backend = loaded, pairs, padding, backend
        self.prompts = {"no_context": [p.without for p in pairs], "with_context": [p.given for p in pairs]}
        self.shared = {view: shared_prefix(prompts) for view, prompts in self.prompts.items()}
        self.prefixes = {
            view: encode_prefix(loaded.model, list(prompts[0])[: self.shared[view]])
            for view, prompts in self.prompts.items()
        }

    def batches(self, size: int) -> Iterator[_Batch]:
        number = -(-len(self.pairs) // size)
        for part in torch.arange(len(self.pairs)).tensor_split(number):
            first, last = int(part[0]), int(part[-1]) + 1
            pairs = self.pairs[first:last]
            views = {
                view: build_view(
                    prompts[first:last], [p.response for p in pairs], self.loaded.pad_id, self.shared[view],
                    self.padding,  # type: ignore[arg-type]
                )
                for view, prompts in self.prompts.items()
            }  # fmt: skip
            yield _Batch(self.loaded, pairs, views, self.prefixes, self.backend)


def _replacement(
    batch: _Batch, site: Site, states: dict[str, States], donor: str, receiver: str, control: str, kept: Tensor
) -> States:
    """What the receiver's states are replaced by. ``kept`` loses the examples that the control does not have."""
    if control == "none":
        return states[donor]
    own = states[receiver]
    if control == "random":
        distance = (states[donor] - own).float().norm(dim=-1, keepdim=True)
        return own + (_random(batch, site, own.shape[1]).to(own.device) * distance).to(own)
    partners = _partners(batch.pairs)
    counts = batch.tokens.bincount(minlength=len(batch.pairs))
    starts = counts.cumsum(0) - counts
    within = torch.arange(len(batch.tokens)) - starts[batch.tokens]
    there = torch.tensor([i if j is None else j for i, j in enumerate(partners)])[batch.tokens]
    kept &= torch.tensor([j is not None for j in partners])
    return states[donor][(starts[there] + torch.minimum(within, counts[there] - 1)).to(own.device)]


def _random(batch: _Batch, site: Site, width: int) -> States:
    """A random direction for every token, which depends on the example and the site and not on the batch."""
    parts = []
    for pair in batch.pairs:
        generator = torch.Generator().manual_seed(crc32(f"{pair.example_id} {site}".encode()))
        parts.append(torch.randn(len(pair.response), width, generator=generator))
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def _partners(pairs: Sequence[Pair]) -> list[int | None]:
    """For every example the next one of another cluster, of its own group if there is one; None: there is no other."""
    n = len(pairs)
    found: list[int | None] = []
    for i, pair in enumerate(pairs):
        others = [(i + step) % n for step in range(1, n) if pairs[(i + step) % n].cluster != pair.cluster]
        found.append(next((j for j in others if pairs[j].group == pair.group), others[0] if others else None))
    return found


def _rows(
    batch: _Batch, kept: Tensor, direction: str, site: Site, control: str, usual: dict[str, _Read], read: _Read
) -> pd.DataFrame:
    donor, receiver = DIRECTIONS[direction]
    there = [i for i, keep in enumerate(kept.tolist()) if keep]
    pairs = [batch.pairs[i] for i in there]
    back = direction == "repair"
    return pd.DataFrame(
        {
            "example_id": [p.example_id for p in pairs],
            "cluster": [p.cluster for p in pairs],
            "group": [p.group for p in pairs],
            "direction": direction,
            "site": site.name,
            "layer": site.layer,
            "control": control,
            "received": usual[receiver].difference[there].numpy(),
            "given": usual[donor].difference[there].numpy(),
            "patched": read.difference[there].numpy(),
            "before": (usual[receiver].whole[there] == back).numpy(),
            "answer": (read.whole[there] == back).numpy(),
        }
    )
