"""One batch of a step, or a micro-batch of it: from prompts and responses to the arm's terms.

Mental model. Student and teacher read the responses in the views that the terms name; what no term names is not
computed. That gives final states at the aligned positions; how they become losses (all at once, on a top-k support, in
chunks) is a matter of memory and changes the values by rounding only.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cr_interp.models.forward import (
    Prefix,
    ViewBatch,
    build_view,
    device_of,
    encode_prefix,
    hidden_states,
    vocabulary,
)
from cr_interp.models.grouping import put_together, sharing
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import is_sharded
from training.objectives import Distribution, Term, gradient_into, needs
from training.run.head import Source, chunked_divergences, on_support
from training.run.lora import adapter_off
from training.run.losses import Losses, Whole, divergence, restricts, weigh
from training.run.precision import precision
from training.settings import Training


@dataclass(frozen=True)
class Prompt:
    """One training prompt, rendered in both views."""

    text: str
    no_context: list[int]
    with_context: list[int]


class Reader:
    """Student and teacher with their terms; the frozen teacher's prefix is read once and kept.

    ``prefix_x`` and ``prefix_c`` are how many tokens all prompts of a run share in each view. The teacher may be the
    student's own module with its adapter off (``teacher is student``): then there is no second copy.
    """

    def __init__(
        self,
        student: Loaded,
        teacher: Loaded,
        terms: Sequence[Term],
        config: Training,
        prefix_x: int,
        prefix_c: int,
    ):
        self.student, self.teacher, self.terms, self.config = student, teacher, terms, config
        self.prefix_x, self.prefix_c = prefix_x, prefix_c
        self._teacher_prefix: Prefix | None = None

    def losses(
        self,
        model: nn.Module,
        batch: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        whole: Whole | None = None,
    ) -> Losses:
        """Compute the arm's terms for given responses; ``whole`` says of which step they are a part."""
        chosen = self.config
        x = build_view([each.no_context for each in batch], responses, self.student.pad_id, self.prefix_x)
        with precision(chosen.bf16, model):
            sources = self._sources(model, x, batch, responses)
            per_token: Iterable[Tensor]
            if restricts(chosen.top_k, vocabulary(model)):
                assert chosen.top_k is not None
                log_p, mass = on_support(dict(sources), chosen.top_k, chosen.temperature, chosen.chunk)
                per_token = (divergence(term, log_p) for term in self.terms)
            elif chosen.chunk:
                states = dict(sources)
                mass = {name: 1.0 for name in states}
                per_token = chunked_divergences(self.terms, states, chosen.temperature, chosen.chunk)
            else:
                # Each head right behind its backbone: the order in which gradients add up is part of a study's bits.
                log_p = {name: source.log_probs(chosen.temperature) for name, source in sources}
                mass = {name: 1.0 for name in log_p}
                per_token = (divergence(term, log_p) for term in self.terms)
            owner = x.rows.to(device_of(model))
            return weigh(self.terms, per_token, owner, mass, chosen.reduction, whole)

    def _sources(
        self, model: nn.Module, x: ViewBatch, batch: Sequence[Prompt], responses: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Distribution, Source]]:
        """Yield the distributions that the terms name, each computed when it is asked for."""
        trained = gradient_into(self.terms, "q_x")
        with torch.set_grad_enabled(trained):
            states = hidden_states(model, x)
        yield "q_x", Source(model, states, trained)
        if not (needs(self.terms, "q_c") or needs(self.terms, "f")):
            return
        groups, views = self._with_context(model, batch, responses)
        lengths = [len(each) for each in responses]
        if needs(self.terms, "q_c"):
            trained = gradient_into(self.terms, "q_c")
            with torch.set_grad_enabled(trained):
                found = [hidden_states(model, c) for c in views]
            yield (
                "q_c",
                Source(model, found[0] if len(found) == 1 else put_together(groups, lengths, found), trained),
            )
        if needs(self.terms, "f"):
            found = [self._teacher_states(c) for c in views]
            states = found[0] if len(found) == 1 else put_together(groups, lengths, found)
            yield "f", Source(self.teacher.model, states, trained=False)

    def _with_context(
        self, model: nn.Module, batch: Sequence[Prompt], responses: Sequence[Sequence[int]]
    ) -> tuple[list[list[int]], list[ViewBatch]]:
        """Return the batch behind its contexts: one view, or several where examples with contexts of their own share them in
        groups.
        """
        ids, pad = [each.with_context for each in batch], self.student.pad_id
        # Sharded processes have to run equally many forwards.
        groups = sharing(ids) if self.config.share_prefix and not is_sharded(model) else []
        if len(groups) < 2:
            return [list(range(len(ids)))], [build_view(ids, responses, pad, self.prefix_c)]
        return groups, [
            build_view([ids[i] for i in group], [responses[i] for i in group], pad) for group in groups
        ]

    @torch.no_grad()
    def _teacher_states(self, c: ViewBatch) -> Any:
        own_module = self.teacher.model is self.student.model
        with adapter_off(self.teacher.model) if own_module else nullcontext():
            if len(c.prefix) != self.prefix_c:  # a group's own
                return hidden_states(self.teacher.model, c)
            if self._teacher_prefix is None:
                self._teacher_prefix = encode_prefix(self.teacher.model, c.prefix)
            return hidden_states(self.teacher.model, c, self._teacher_prefix)
