"""From a checkpoint and its responses to three tables: ``drift``, ``token_drift`` and ``cka_map``.

Mental model. Every response is read in several views: without the context (the reference), behind each context
control, and once more without it along another arithmetic path (``repeat``: the numerical ceiling). All sites are
captured in one forward of a batch; the states go into one accumulator per site and control and are forgotten.
Beside the controls stands the ``floor``: the reference states of *unrelated* tokens at the same place of two
responses. A drift means something where it is far from ``repeat``, and little where it is near ``floor``.
Of an episode with turns every turn is read, behind its own prompt; its tokens follow one another as one response, and
intervals are over episodes.

    drift         the panel of every site and control, with intervals over examples; attention sinks left out
                  (drift_with_sinks: the same with them, where there were any)
    token_drift   cosine and relative L2 of every token and site, and the output's KL(q_x ‖ q_c), exact context
    cka_map       layer × layer debiased CKA: inside a view, between the views, and against a reference model; between rows (cka)
                  and between examples only (cka_examples)

In the ``cosine`` row of the block where it is lowest, ``min_low, min_high`` are the interval of that minimum (``low, high``
are that of the layer, as if it had been chosen beforehand). Of ``cka_examples``, ``p`` is the layer's own and ``p_layers``
that of the layer among all.
"""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from cr_interp.capture import capture
from cr_interp.capture.sites import Site, residual_sites
from cr_interp.capture.states import States, open_states
from cr_interp.ends import ends
from cr_interp.errors import UserError
from cr_interp.measure.maps import Maps
from cr_interp.measure.subject import Subject, label
from cr_interp.measure.tokens import moves, output_kl
from cr_interp.models.forward import Prefix, ViewBatch, build_view, encode_prefix
from cr_interp.models.loading import Loaded, fingerprint
from cr_interp.similarity import MEASURES, DriftAccumulator, not_sinks, tokens_each, unrelated
from cr_interp.similarity.layers import Nulls, panel_rows, with_p
from cr_interp.study.study import Study
from cr_interp.views import check_context_shows, check_fits, check_same_prompt, shared_prefix

REFERENCE, REPEAT, FLOOR = "none", "repeat", "floor"
FINAL = Site("final", -1)

#: What costs a singular value decomposition a layer is measured where it is looked at.
THOROUGH = ("exact", FLOOR)

#: Bootstrap replicates of means and ratios.
RESAMPLES = 1000

Progress = Callable[[int, int], None]
"""Tokens done and tokens in all, over all views and passes."""


@dataclass(frozen=True)
class DriftTables:
    drift: pd.DataFrame
    token_drift: pd.DataFrame
    cka_map: pd.DataFrame
    drift_with_sinks: pd.DataFrame
    """``drift`` once more where attention sinks were left out, now with them; empty if there were none."""

    def labelled(self, **columns: Any) -> "DriftTables":
        every = (self.drift, self.token_drift, self.cka_map, self.drift_with_sinks)
        return DriftTables(*(label(each, **columns) for each in every))

    def put(self, study: Study, tokens_and_maps: bool = True) -> None:
        """Add to a study's tables. ``drift`` comes last: its rows say that a checkpoint is done."""
        if tokens_and_maps:
            study.put("token_drift", self.token_drift)
            study.put("cka_map", self.cka_map)
        if len(self.drift_with_sinks):
            study.put("drift_with_sinks", self.drift_with_sinks)
        else:  # none were left out this time: earlier rows would be those of another measurement
            study.drop("drift_with_sinks", self.drift)
        study.put("drift", self.drift)


def measure_drift(
    loaded: Loaded,
    subject: Subject,
    responses: Mapping[str, Sequence[int]],
    reference: Loaded | None = None,
    sites_per_pass: int | None = None,
    save_states: Path | None = None,
    progress: Progress = lambda done, total: None,
    backend: str = "hooks",
    turns: Mapping[str, Sequence[tuple[str, int]]] | None = None,
    example_tokens: int | None = None,
) -> DriftTables:
    """Measure one checkpoint at the embedding and after every block.

    ``responses`` maps an example's id to the response ids on which the views are compared (usually the checkpoint's
    own no-context answers). ``turns`` cuts those of a task with turns: prompt and number of response ids of each turn
    (:func:`~cr_interp.measure.subject.own_turns`). ``reference`` (the base model) is read on the same tokens for the map across
    checkpoints.
    ``sites_per_pass`` bounds memory: the accumulators of so many sites at a time, at the price of more passes.
    ``example_tokens`` is how many tokens of each response example-level CKA compares, one number for a study
    (:func:`~cr_interp.measure.subject.study_tokens`); None: chosen from these responses alone. Shorter ones are dropped and
    counted.
    ``save_states`` keeps the states as safetensors shards, which a second run reads instead of running the model.

    Raises :class:`UserError` for no responses, sequences that do not fit, states that are not finite (with site,
    context and example), and exhausted memory (with what to set).
    """
    plan = _Plan.of(loaded, subject, responses, reference, turns or {})
    saved = open_states(save_states, plan.key()) if save_states else None
    sites = residual_sites(loaded.model)
    size = sites_per_pass or len(sites)
    groups = [sites[start : start + size] for start in range(0, len(sites), size)]
    total = len(groups) * len(plan.views) * sum(map(len, plan.answers))
    done = 0

    def count(tokens: int) -> None:
        nonlocal done
        done += tokens
        progress(done, total)

    each = example_tokens or tokens_each([[len(ids) for ids in plan.responses()]])
    drift, with_sinks = _Rows(), _Rows()
    tokens: list[pd.DataFrame] = []
    maps = Maps(each)
    try:
        for group in groups:
            first = group is groups[0]
            # The maps need all layers at once, of a bounded sample of the rows: the first pass takes them along.
            wanted = [*sites, FINAL] if first else group
            panel = _Panel(plan, group, each)
            for batch in plan.batches(wanted, saved, count, backend):
                panel.add(batch)
                tokens.append(_token_rows(plan, batch, group, with_output=first))
                if first:
                    base = {} if reference is None else {"base": plan.of_reference(batch, sites)}
                    maps.add({**batch.states, **base}, batch.owner, sites)
            drift.add(plan, panel.of)
            with_sinks.add(plan, panel.with_sinks)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise UserError(
                f"Out of memory while measuring {size} of {len(sites)} sites at a time ({_short(error)}). Measure fewer "
                f"a pass, for example --sites-per-pass {max(1, size // 2)}; with --save-states what was captured is kept."
            ) from error
        raise
    return DriftTables(drift.table(), pd.concat(tokens, ignore_index=True), maps.rows(sites), with_sinks.table())


# -- what is read --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """The states of some examples in every view, and which example each token is of. ``start`` counts sequences."""

    start: int
    view: ViewBatch
    states: dict[str, dict[Site, Float[Tensor, "token width"]]]
    owner: Int[Tensor, " token"]


@dataclass(frozen=True)
class _Plan:
    """The sequences of every view, the same responses behind each. An example is a sequence, or one for each of its turns."""

    loaded: Loaded
    subject: Subject
    reference: Loaded | None
    ids: list[str]
    """Of the examples."""
    clusters: list[str]
    """What each example is drawn with by a bootstrap."""
    owners: list[int]
    """Of every sequence: its example's place in ``ids``, rising."""
    answers: list[list[int]]
    views: dict[str, list[list[int]]]

    @staticmethod
    def of(
        loaded: Loaded,
        subject: Subject,
        responses: Mapping[str, Sequence[int]],
        reference: Loaded | None,
        turns: Mapping[str, Sequence[tuple[str, int]]],
    ) -> "_Plan":
        examples = [example for example in subject.examples if len(responses.get(example.id, ()))]
        if not examples:
            raise UserError("None of the examples has a response to compare the views on. Run `evaluate` first.")

        owners: list[int] = []
        texts: list[str] = []
        answers: list[list[int]] = []
        for place, example in enumerate(examples):
            ids, start = list(responses[example.id]), 0
            for text, tokens in turns.get(example.id, [(example.prompt, len(ids))]):
                owners.append(place)
                texts.append(text)
                answers.append(ids[start : start + tokens])
                start += tokens

        asked = [examples[place] for place in owners]

        def prompts(control: str | None) -> list[list[int]]:
            return subject.prompts(loaded.tokenizer, asked, control, texts)

        views = {REFERENCE: prompts(None), **{c: prompts(c) for c in subject.contexts}}
        for c in subject.contexts:
            check_context_shows(loaded.tokenizer, views[REFERENCE], views[c], c)
        views[REPEAT] = views[REFERENCE]
        for c, rendered in views.items():
            check_same_prompt(loaded.tokenizer, views[REFERENCE], rendered, c)
            longest = max(len(p) + len(a) for p, a in zip(rendered, answers, strict=True))
            check_fits(longest, loaded.max_positions, f"The longest sequence with context '{c}'")
        names = [example.id for example in examples]
        clusters = [str(getattr(example, "cluster", None) or example.id) for example in examples]
        return _Plan(loaded, subject, reference, names, clusters, owners, answers, views)

    def responses(self) -> list[list[int]]:
        """Return every example's response, its turns one after the other."""
        found: list[list[int]] = [[] for _ in self.ids]
        for owner, answer in zip(self.owners, self.answers, strict=True):
            found[owner] += answer
        return found

    @property
    def controls(self) -> list[str]:
        return [c for c in self.views if c != REFERENCE]

    def key(self) -> str:
        """Name the checkpoint, responses and contexts that saved states are of."""
        digest = hashlib.blake2b(fingerprint(self.loaded.model, self.loaded.tokenizer).encode(), digest_size=16)
        digest.update(repr((self.answers, self.views, self.subject.evaluation.batch_size)).encode())
        return digest.hexdigest()

    def batches(
        self, sites: list[Site], saved: States | None, count: Callable[[int], None], backend: str
    ) -> Iterator[_Batch]:
        # The repeat goes along another path: every sequence whole, nothing shared.
        shared = {c: 0 if c == REPEAT else shared_prefix(ids) for c, ids in self.views.items()}
        prefixes: dict[str, Prefix] = {}
        owners = torch.tensor(self.owners)
        # So many sequences at most, but all of an example's, which belong together.
        size = max(1, self.subject.evaluation.batch_size // int(owners.bincount().max()))
        for first in range(0, len(self.ids), size):
            start, end = (bisect_left(self.owners, example) for example in (first, first + size))
            part = slice(start, end)
            states: dict[str, dict[Site, Tensor]] = {}
            for c, ids in self.views.items():
                view = build_view(ids[part], self.answers[part], self.loaded.pad_id, shared[c])
                owner = owners[view.rows + start].tolist()
                found = None if saved is None else saved.batch(c, start, sites)
                if found is None:
                    if c not in prefixes:
                        with torch.no_grad():
                            prefixes[c] = encode_prefix(self.loaded.model, ids[0][: shared[c]])
                    found = self._capture(view, sites, prefixes[c], c, start, backend)
                    if saved is not None:
                        saved.write(c, start, found, owner)
                states[c] = found
                count(len(owner))
            reference = build_view(self.views[REFERENCE][part], self.answers[part], self.loaded.pad_id)
            yield _Batch(start, reference, states, owners[reference.rows + start])

    def _capture(
        self, view: ViewBatch, sites: list[Site], prefix: Prefix, c: str, start: int, backend: str
    ) -> dict[Site, Tensor]:
        found = capture(self.loaded.model, view, sites, prefix, backend, check_finite=False)
        for site, state in found.items():
            finite = state.float().sum(1).isfinite()
            if not bool(finite.all()):
                bad = sorted({self.ids[self.owners[start + row]] for row in view.rows[~finite.cpu()].tolist()})
                raise UserError(
                    f"At {site}, context '{c}': states of {int((~finite).sum())} of {len(finite)} tokens are not finite, in "
                    f"the examples {', '.join(bad[:5])}{' …' if len(bad) > 5 else ''}. Check the checkpoint (its training "
                    f"may have diverged), or run it in float32."
                )
        return found

    def of_reference(self, batch: _Batch, sites: list[Site]) -> dict[Site, Tensor]:
        """Capture the reference model's states of the same tokens, without the context."""
        assert self.reference is not None
        if len(residual_sites(self.reference.model)) != len(sites):
            raise UserError(
                f"The reference model {self.reference.name} has another number of layers than {self.loaded.name}; maps "
                f"across checkpoints need models of one architecture."
            )
        return capture(self.reference.model, batch.view, sites)


# -- what is made of it --------------------------------------------------------------------------------------


class _Panel:
    """One accumulator per control and site; where a sink was left out, from then on a second one that has it."""

    def __init__(self, plan: _Plan, sites: list[Site], example_tokens: int) -> None:
        self.mask = plan.subject.evaluation.mask_sinks
        width = plan.loaded.model.config.get_text_config().hidden_size
        cheap = tuple(name for name in MEASURES if name != "procrustes")
        self.of = {
            (site, c): DriftAccumulator(
                width, measures=MEASURES if c in THOROUGH else cheap, tokens=example_tokens, chained=c == FLOOR
            )
            for c in (*plan.controls, FLOOR)
            for site in sites
        }
        self.with_sinks: dict[tuple[Site, str], DriftAccumulator] = {}

    def add(self, batch: _Batch) -> None:
        here, there = unrelated(batch.owner)
        for (site, c), accumulator in self.of.items():
            x, owner = batch.states[REFERENCE][site], batch.owner
            y = x if c == FLOOR else batch.states[c][site]
            if c == FLOOR:
                x, y, owner = x[here], y[there], owner[here]
            kept = not_sinks(x, y) if self.mask and len(x) else None
            if kept is not None and not bool(kept.all()) and (site, c) not in self.with_sinks:
                self.with_sinks[site, c] = deepcopy(accumulator)  # so far both had seen the same
            accumulator.update(x, y, owner, kept)
            if (site, c) in self.with_sinks:
                self.with_sinks[site, c].update(x, y, owner, None)


class _Rows:
    """The rows of ``drift``, pass by pass; what is said about all layers together, at the end."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.nulls: Nulls = {}
        self.cosines: dict[tuple[Site, str], Float[ndarray, " replicates"]] = {}
        self.units = 0

    def add(self, plan: _Plan, accumulators: Mapping[tuple[Site, str], DriftAccumulator]) -> None:
        chosen = plan.subject.evaluation.permutations
        rows, nulls = panel_rows(accumulators, ("site", "control"), RESAMPLES, chosen, plan.clusters, ("exact",))
        self.found += rows
        self.nulls |= nulls
        self.units = len(set(plan.clusters))
        for (site, c), one in accumulators.items():
            if site.name == "resid_post" and one.n_examples:
                self.cosines[site, c] = one.cosines(RESAMPLES, clusters=plan.clusters)

    def table(self) -> pd.DataFrame:
        rows = with_p(self.found, self.nulls, ("site", "control"))
        self._add_lowest()
        return pd.DataFrame(
            [{"site": site.name, "layer": site.layer, **rest} for site, rest in (_divided(row) for row in rows)]
        )

    def _add_lowest(self) -> None:
        """Add the interval of the lowest mean cosine over the blocks, from the same draws in every layer."""
        for control in dict.fromkeys(c for _, c in self.cosines):
            mine = [
                row
                for row in self.found
                if row["measure"] == "cosine"
                and row["control"] == control
                and (row["site"], control) in self.cosines
                and math.isfinite(row["estimate"])
            ]
            if mine:
                lowest = min(mine, key=lambda row: row["estimate"])
                draws = np.min([self.cosines[row["site"], control] for row in mine], axis=0)
                units = min(self.units, lowest["n_examples"])
                lowest["min_low"], lowest["min_high"] = ends(lowest["estimate"], draws, units, biased=True)


def _divided(row: dict[str, Any]) -> tuple[Site, dict[str, Any]]:
    return row["site"], {name: value for name, value in row.items() if name != "site"}


def _token_rows(plan: _Plan, batch: _Batch, sites: list[Site], with_output: bool) -> pd.DataFrame:
    """Return a row per token and site under the exact context; ``kl`` stands in the rows of the site ``output``."""
    without, given = batch.states[REFERENCE], batch.states["exact"]
    owner = batch.owner.tolist()
    # Tokens of an example stand together and in order, its turns one after the other.
    _, counts = torch.unique_consecutive(batch.owner, return_counts=True)
    position = [i for count in counts.tolist() for i in range(count)]
    vocabulary: Any = plan.loaded.tokenizer
    common = pd.DataFrame(
        {
            "example_id": [plan.ids[i] for i in owner],
            "position": pd.array(position, dtype="int32"),
            "token": [vocabulary.decode([t]) for t in batch.view.targets.tolist()],
        }
    )
    parts = []
    for site in sites:
        cosine, relative_l2 = moves(without[site], given[site])
        parts.append(
            common.assign(
                site=site.name,
                layer=site.layer,
                cosine=cosine.cpu().numpy(),
                relative_l2=relative_l2.cpu().numpy(),
                kl=math.nan,
            )
        )
    if with_output:
        kl = output_kl(plan.loaded, without[FINAL], given[FINAL]).double().cpu().numpy()
        parts.append(common.assign(site="output", layer=-1, cosine=math.nan, relative_l2=math.nan, kl=kl))
    frame = pd.concat(parts, ignore_index=True)
    return frame.astype({"cosine": "float32", "relative_l2": "float32", "kl": "float32", "layer": "int32"})


def _short(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:120] or type(error).__name__
