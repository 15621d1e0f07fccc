"""Both views of the answers in batches, ready to be run with states put in, and what a run says of each answer.

Mental model. :class:`Views` lays out all answers in both views, behind prefixes that are computed once. A :class:`Batch` runs
a view of some answers and gives two read-outs. One is the logit of the answer's token minus that of the other view's token,
at the place where the two answers part. The other is whether the argmax is the answer at every position. An example's partner,
whose state is its control, may be in another batch: it is a *guest* of this one then, which is run once, for its states.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cr_interp.capture.sites import Site
from cr_interp.errors import UserError
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.partners import answered_otherwise, partners_of
from cr_interp.mechanism.runs import Captured, Restarted, Run, States, restarts
from cr_interp.models.aligned import aligned_rows
from cr_interp.models.forward import ViewBatch, build_view, encode_prefix, logits
from cr_interp.models.loading import Loaded
from cr_interp.views import shared_prefix

VIEWS = ("no_context", "with_context")
#: Tokens whose logits are held at a time: a vocabulary is wide.
CHUNK = 512


@dataclass(frozen=True)
class Read:
    """The answer of a run for each example of a batch."""

    difference: Float[Tensor, " example"]
    """NaN where the answers do not part."""
    whole: Bool[Tensor, " example"]


class Batch:
    def __init__(
        self,
        loaded: Loaded,
        pairs: Sequence[Pair],
        runs: dict[str, Run],
        view: ViewBatch,
        numbers: Sequence[int],
        guests: "Guests",
    ) -> None:
        self.loaded, self.pairs, self.runs, self.guests = loaded, pairs, runs, guests
        self.numbers = list(numbers)
        """Which of all pairs these are."""
        self.tokens: Int[Tensor, " token"] = view.rows
        """Which example each aligned position is of; the same in both views."""
        self.targets = view.targets

    @cached_property
    def starts(self) -> Int[Tensor, " example"]:
        """Find where each example's aligned positions begin."""
        counts = self.tokens.bincount(minlength=len(self.pairs))
        return counts.cumsum(0) - counts

    @property
    def partners(self) -> list[int | None]:
        """The other example that is each one's control, numbered in this batch's examples followed by its guests."""
        return self.guests.partners

    @cached_property
    def otherwise(self) -> Bool[Tensor, " example"]:
        """Tell whether the partner has another answer."""
        everybody = [*self.pairs, *self.guests.pairs]
        partners = [*self.partners, *[None] * len(self.guests.pairs)]
        return torch.tensor(answered_otherwise(everybody, partners)[: len(self.pairs)], dtype=torch.bool)

    @cached_property
    def partner_tokens(self) -> Int[Tensor, " token"]:
        """Return, for every token, the partner's at the same place of its answer, or its last one; without a partner its own.

        Tokens are numbered as :meth:`states` has them.
        """
        lengths = torch.tensor([len(pair.response) for pair in (*self.pairs, *self.guests.pairs)])
        starts = lengths.cumsum(0) - lengths
        of = torch.tensor([i if j is None else j for i, j in enumerate(self.partners)])[self.tokens]
        within = torch.arange(len(self.tokens)) - self.starts[self.tokens]
        return starts[of] + torch.minimum(within, lengths[of] - 1)

    @property
    def held(self) -> int:
        """The number of tokens that :meth:`states` has."""
        return len(self.tokens) + sum(len(pair.response) for pair in self.guests.pairs)

    def states(self, sites: Sequence[Site]) -> dict[str, dict[Site, States]]:
        """Return both views' own states, this batch's tokens followed by its guests'."""
        return {view: self.joined(view, run.states(sites)) for view, run in self.runs.items()}

    @torch.no_grad()
    def joined(self, view: str, states: Mapping[Site, States]) -> dict[Site, States]:
        """Put the guests' states behind those of this batch's tokens."""
        if not self.guests.pairs:
            return dict(states)
        theirs = self.guests.run(view).states(list(states))
        return {site: torch.cat([own, theirs[site].to(own)]) for site, own in states.items()}

    @cached_property
    def parted(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """List the examples whose answers part: their numbers, the token where they do, and the two ids."""
        found = [
            (i, int(self.starts[i]) + p.place, p.own, p.other)
            for i, p in enumerate(self.pairs)
            if p.place is not None and p.own is not None and p.other is not None
        ]
        numbers, at, own, other = torch.tensor(found, dtype=torch.long).reshape(-1, 4).unbind(1)
        return numbers, at, own, other

    def read(self, final: States) -> Read:
        """Read off a run's last states."""
        count = len(self.pairs)
        difference = torch.full((count,), float("nan"), dtype=torch.float64)
        numbers, at, own, other = self.parted
        right = []
        for first in range(0, len(final), CHUNK):
            scores = logits(self.loaded.model, for_head(self.loaded, final[first : first + CHUNK]))
            right.append(scores.argmax(-1).cpu() == self.targets[first : first + CHUNK])
            here = (at >= first) & (at < first + CHUNK)
            if bool(here.any()):
                of = scores[(at[here] - first).to(scores.device)].cpu().double()
                each = torch.arange(len(of))
                difference[numbers[here]] = of[each, own[here]] - of[each, other[here]]
        wrong = self.tokens[~torch.cat(right)].bincount(minlength=count)
        return Read(difference, wrong == 0)

    @cached_property
    def usual(self) -> dict[str, Read]:
        """Both views as they are."""
        return {view: self.read(run.final()) for view, run in self.runs.items()}


@dataclass(frozen=True)
class Guests:
    """Partners that are in another batch."""

    partners: list[int | None]
    """See :attr:`Batch.partners`."""
    pairs: Sequence[Pair]
    run: Callable[[str], Run]


class Views:
    """All pairs in both views, in batches of about equal size, behind a prefix that is computed once."""

    def __init__(
        self,
        loaded: Loaded,
        pairs: Sequence[Pair],
        padding: str = "right",
        backend: str = "hooks",
        restart: bool = True,
    ) -> None:
        self.loaded, self.pairs, self.padding, self.backend = loaded, pairs, padding, backend
        self.prompts = {"no_context": [p.without for p in pairs], "with_context": [p.given for p in pairs]}
        self.shared = {view: shared_prefix(prompts) for view, prompts in self.prompts.items()}
        longest = max((len(p.given) + len(p.response) for p in pairs), default=0)
        self.restart = restart and restarts(loaded.model, longest, backend)
        self.prefixes = {
            view: encode_prefix(loaded.model, list(prompts[0])[: self.shared[view]])
            for view, prompts in self.prompts.items()
        }

    def batches(self, size: int, seen: Sequence[str] = VIEWS) -> Iterator[Batch]:
        """Yield batches of at most ``size`` pairs, in the views ``seen``. Every group is spread over all of them, so that
        most batches have the examples which are the others' controls.
        """
        number = -(-len(self.pairs) // size)
        for first in range(number):
            numbers = range(first, len(self.pairs), number)
            views = {view: self._view(view, numbers) for view in seen}
            runs = {view: self._run(view, numbers, views[view]) for view in seen}
            pairs = [self.pairs[i] for i in numbers]
            yield Batch(self.loaded, pairs, runs, views[seen[0]], numbers, self._guests(numbers))

    @cached_property
    def partners(self) -> list[int | None]:
        """Number every example's partner, which does not depend on the batches."""
        return partners_of(self.pairs)

    def _guests(self, numbers: Sequence[int]) -> Guests:
        asked = [self.partners[i] for i in numbers]
        others = sorted({j for j in asked if j is not None}.difference(numbers))
        place = {j: at for at, j in enumerate([*numbers, *others])}

        @cache
        def run(view: str) -> Run:
            return self._run(view, others, self._view(view, others))

        return Guests([None if j is None else place[j] for j in asked], [self.pairs[j] for j in others], run)

    def _view(self, view: str, numbers: Sequence[int]) -> ViewBatch:
        prompts, responses = self._texts(view, numbers)
        return build_view(prompts, responses, self.loaded.pad_id, self.shared[view], self.padding)  # type: ignore[arg-type]

    def _texts(self, view: str, numbers: Sequence[int]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
        return [self.prompts[view][i] for i in numbers], [self.pairs[i].response for i in numbers]

    def _run(self, view: str, numbers: Sequence[int], laid_out: ViewBatch) -> Run:
        model, prefix = self.loaded.model, self.prefixes[view]
        if not self.restart:
            return Captured(model, laid_out, prefix, self.backend)
        rows = aligned_rows(model, *self._texts(view, numbers), prefix, self.loaded.pad_id)
        return Restarted(model, laid_out, rows)


def for_head(loaded: Loaded, states: States) -> States:
    """Bring states to the LM head's device and precision."""
    weight = loaded.model.get_output_embeddings().weight
    return states.to(weight.device, weight.dtype)


@contextmanager
def says_exhausted(batch_size: int) -> Iterator[None]:
    """Turn exhausted memory into a :class:`UserError` that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise UserError(
                f"Out of memory with batches of {batch_size} examples. Take smaller ones, for example --batch-size "
                f"{max(1, batch_size // 2)}; the checkpoints that are done are kept."
            ) from error
        raise
