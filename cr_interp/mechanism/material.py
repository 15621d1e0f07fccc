"""Prompts that directions, probes and gradients are computed from, apart from the answers that are explained.

Mental model. What is found on some examples has to be tried on others. Where the study's task is known, the prompts are of its
training split; else (somebody's own prompts) they are those of half of the study's clusters, and answers of these clusters
are then not explained by what was found on them. Every prompt is rendered in all views: without a context, and behind each
that the study knows. The checkpoint's own answers without the context are read in all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.capture import capture
from cr_interp.capture.sites import Site
from cr_interp.errors import UserError
from cr_interp.mechanism.given import USUAL, Options, Pair
from cr_interp.models.forward import build_view, encode_prefix
from cr_interp.models.generation import Decoding, generate
from cr_interp.models.loading import Loaded
from cr_interp.study.questions import contexts, examples, no_context, task_of, token_limit
from cr_interp.study.study import Study
from cr_interp.tasks.base import Example, before
from cr_interp.tasks.yours.described import DescribedTask
from cr_interp.views import Given, NoContext, check_same_prompt, render, shared_prefix

NONE = "none"


def prompts_of(study: Study, most: int) -> list[Example]:
    """Choose at most so many prompts: of the task's training split, or of half of the study's own clusters.

    Raises :class:`UserError` for a study without prompts.
    """
    task = task_of(study)
    if task is not None and not (isinstance(task, DescribedTask) and not task.is_local):
        for n in (most, None):
            try:
                found = task.examples("train", n)
            except UserError:  # fewer than that, or none here
                continue
            if found:
                return found[:most]
    own = _with_clusters(study)
    if not own:
        raise UserError(
            f"{study.path} holds no prompts to look at: it has no answers, and its task is not known here."
        )
    clusters = sorted({each.cluster for each in own})
    half = set(np.random.default_rng(0).permutation(clusters)[: max(1, len(clusters) // 2)])
    return [each for each in own if each.cluster in half][:most]


def _with_clusters(study: Study) -> list[Example]:
    rows = study.table("generations")
    of = dict(zip(rows["example_id"].astype(str), rows["cluster"], strict=True)) if "cluster" in rows else {}
    own = examples(study)
    return [replace(e, cluster=c if isinstance(c := of.get(e.id), str) else e.id) for e in own]


@dataclass
class Material:
    """A checkpoint beside its base and teacher, and prompts in every view.

    ``base`` and ``teacher`` load when they are first called, and are kept from checkpoint to checkpoint.
    """

    loaded: Loaded
    base: Callable[[], Loaded]
    teacher: Callable[[], Loaded]
    prompts: Sequence[Example]
    contexts: Mapping[str, Given]
    no_context: NoContext
    limit: int
    """Tokens of an answer, at most."""
    pairs: Sequence[Pair] = ()
    """Answers of other clusters, on which effects are tried."""
    is_base: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)
    """The study's configuration, as its manifest has it."""
    options: Options = USUAL
    progress: Callable[[int, int], None] = lambda done, total: None
    _means: dict[tuple[int, str], dict[Site, Tensor]] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(study: Study, loaded: Loaded, **rest: Any) -> "Material":
        told = study.manifest.get("config")
        return Material(
            loaded,
            contexts=contexts(study),
            no_context=no_context(study),
            limit=token_limit(study) or 32,
            told=told if isinstance(told, dict) else {},
            **rest,
        )

    @cached_property
    def views(self) -> dict[str, list[list[int]]]:
        """``none`` and every context → the ids of each prompt."""
        every: dict[str, Given | None] = {NONE: None, **self.contexts}
        tokenizer = self.loaded.tokenizer
        found = {
            name: [render(tokenizer, each.prompt, before(each, given), self.no_context) for each in self.prompts]
            for name, given in every.items()
        }
        for name in self.contexts:
            check_same_prompt(self.loaded.tokenizer, found[NONE], found[name], name)
        return found

    @cached_property
    def responses(self) -> list[list[int]]:
        """The checkpoint's own greedy answers without the context."""
        decoding = Decoding(self.limit, batch_size=self.options.batch_size)
        return [list(each.ids) for each in generate(self.loaded, self.views[NONE], decoding)]

    def means(self, who: Loaded, view: str, sites: Sequence[Site]) -> dict[Site, Float[Tensor, "prompt width"]]:
        """Compute the mean state of every prompt's aligned positions in a view, as ``who`` (the checkpoint or its base) has
        it.

        Every prompt counts alike, however long its answer. What was read before is kept.
        """
        key = (id(who.model), view)
        kept = self._means.setdefault(key, {})
        if not kept.keys() >= set(sites):
            kept |= self._read(who, self.views[view], sites)
        return {site: kept[site] for site in sites}

    def _read(
        self, who: Loaded, prompts: Sequence[Sequence[int]], sites: Sequence[Site]
    ) -> dict[Site, Float[Tensor, "prompt width"]]:
        shared, size = shared_prefix(prompts), self.options.batch_size
        found: dict[Site, list[Tensor]] = {site: [] for site in sites}
        with torch.no_grad():
            prefix = encode_prefix(who.model, list(prompts[0])[:shared])
        for first in range(0, len(prompts), size):
            part = slice(first, first + size)
            view = build_view(prompts[part], self.responses[part], who.pad_id, shared)
            counts = view.rows.bincount(minlength=len(prompts[part]))
            states = capture(who.model, view, sites, prefix, self.options.backend)
            for site, state in states.items():
                sums = torch.zeros(len(counts), state.shape[1]).index_add_(0, view.rows, state.float().cpu())
                found[site].append(sums / counts[:, None])
        return {site: torch.cat(parts) for site, parts in found.items()}

    @property
    def apart(self) -> list[Pair]:
        """The answers that share no cluster with the prompts."""
        taken = {each.cluster for each in self.prompts} | {each.id for each in self.prompts}
        return [pair for pair in self.pairs if pair.cluster not in taken and pair.example_id not in taken]

    @property
    def clusters(self) -> list[str]:
        return [each.cluster for each in self.prompts]
