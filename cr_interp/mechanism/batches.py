"""Both views of the answers in batches, ready to be run with states put in, and what a run says of each answer.

Mental model. :class:`Views` lays out all answers in both views, behind prefixes that are computed once. A :class:`Batch` runs
a view of some answers and gives two read-outs. One is the logit of the answer's token minus that of the other view's token,
at the place where the two answers part. The other is whether the argmax is the answer at every position.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
        numbers: Sequence[int] | None = None,
    ) -> None:
        self.loaded, self.pairs, self.runs = loaded, pairs, runs
        self.numbers = list(range(len(pairs)) if numbers is None else numbers)
        """Which of all pairs these are."""
        self.tokens: Int[Tensor, " token"] = view.rows
        """Which example each aligned position is of; the same in both views."""
        self.targets = view.targets

    @cached_property
    def starts(self) -> Int[Tensor, " example"]:
        """Find where each example's aligned positions begin."""
        counts = self.tokens.bincount(minlength=len(self.pairs))
        return counts.cumsum(0) - counts

    @cached_property
    def partners(self) -> list[int | None]:
        """The example, of this batch, that is each example's control."""
        return partners_of(self.pairs)

    @cached_property
    def otherwise(self) -> Bool[Tensor, " example"]:
        """Tell whether the partner has another answer."""
        return torch.tensor(answered_otherwise(self.pairs, self.partners), dtype=torch.bool)

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
        each batch has the examples which are the others' controls.
        """
        number = -(-len(self.pairs) // size)
        for first in range(number):
            numbers = range(first, len(self.pairs), number)
            views = {view: self._view(view, numbers) for view in seen}
            runs = {view: self._run(view, numbers, views[view]) for view in seen}
            yield Batch(self.loaded, [self.pairs[i] for i in numbers], runs, views[seen[0]], numbers)

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
