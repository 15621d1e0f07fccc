"""Gradients of single terms at a checkpoint: the table ``gradients``, an analysis of ``cr-interp explain``.

Mental model. The checkpoint answers training prompts without the context as it would in training (sampled at the run's
temperature). The prompts are dealt into groups by cluster. For each group and each term that the study's arms are made of,
one backward pass gives the gradient in every trained weight. Only the gradients' inner products are kept, weight by weight;
``cr_interp/mechanism/alignment.py`` reads them. The losses are training's own (``step.py``), so this module lives beside them
and the list of analyses names it by its address.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor, nn

from cr_interp.errors import UserError
from cr_interp.mechanism.alignment import MEASURES, measured
from cr_interp.mechanism.material import NONE, Material
from cr_interp.mechanism.updates import place_of
from cr_interp.models.generation import Decoding, generate, noise
from cr_interp.models.loading import Loaded
from cr_interp.models.weights import plain
from cr_interp.statistics import cluster_numbers
from cr_interp.views import shared_prefix
from training.objectives import Term, arm_terms
from training.run.losses import Whole
from training.run.step import Prompt, Reader
from training.settings import Training

#: Terms that are looked at whatever a study was trained with: those of the paper's arms.
ALWAYS = ("opd", "nca", "dual_opd")
#: Groups of prompts; with fewer the intervals widen, but fewer gradients have to be held.
GROUPS = (8, 4, 2)
#: Bytes of gradients that are held at a time.
MOST_BYTES = 4 << 30
COLUMNS = ["module", "layer", "term", "other_term", "measure", "control", "estimate", "low", "high", "n_examples"]


def rows(given: Material) -> dict[str, pd.DataFrame]:
    """Compute the table ``gradients`` of one checkpoint."""
    config = _training(given.told)
    terms = terms_of(given.told)
    names, products, n = inner_products(given, terms, config)
    return {"gradients": table(names, [str(term) for term in terms], products, n)}


def terms_of(told: Mapping[str, Any]) -> list[Term]:
    """Return the distinct terms, without weights, of the paper's arms and of a study's."""
    own = told.get("own_arms")
    own = own if isinstance(own, dict) else {}
    arms = told.get("arms")
    listed = [str(arm) for arm in arms] if isinstance(arms, list) else []
    found: dict[str, Term] = {}
    for arm in dict.fromkeys([*ALWAYS, *(each for each in listed if each != "base")]):
        for term in arm_terms(arm, own):
            bare = replace(term, weight=1.0)
            found.setdefault(str(bare), bare)
    return list(found.values())


def inner_products(
    given: Material, terms: Sequence[Term], config: Training
) -> tuple[list[str], list[ndarray], int]:
    """Return names of the trained weights, for each the products [term·group, term·group], and how many prompts there were.

    Raises :class:`UserError` for gradients that do not fit into memory in the fewest groups.
    """
    student = given.loaded
    names, weights = trained(student.model)
    groups, kept_as = _room(len(terms), sum(weight.numel() for weight in weights), len(set(given.clusters)))
    teacher = given.teacher()
    if teacher.model is student.model:  # the reader would look for an adapter to switch off
        teacher = Loaded(teacher.name, copy(teacher.model), teacher.tokenizer)
    x, c = given.views[NONE], given.views["exact"]
    prompts = [Prompt(e.prompt, a, b) for e, a, b in zip(given.prompts, x, c, strict=True)]
    decoding = Decoding(given.limit, config.temperature, batch_size=given.options.batch_size)
    uniform = noise(0, range(len(x)), given.limit)
    responses = [list(each.ids) for each in generate(student, x, decoding, uniform)]
    whole, shared = Whole.of(responses), (shared_prefix(x), shared_prefix(c))
    of = cluster_numbers(given.clusters) % groups
    held: list[list[Tensor]] = [[] for _ in weights]
    done, total = 0, len(terms) * whole.tokens
    for term in terms:
        reader = Reader(student, teacher, [term], config, *shared)
        for group in range(groups):
            mine = np.flatnonzero(of == group)
            for place, gradient in zip(
                held, _gradient(reader, weights, prompts, responses, mine, whole, config), strict=True
            ):
                place.append(gradient.to(kept_as).flatten())
            done += sum(len(responses[i]) for i in mine)
            given.progress(done, total)
    products = []
    for index, place in enumerate(held):
        held[index] = []
        stacked = torch.stack(place)
        place.clear()
        products.append(_products(stacked))
    return names, products, len(prompts)


def trained(model: nn.Module) -> tuple[list[str], list[Tensor]]:
    """Return the weights that training moves: an adapter's own, or all."""
    found = dict(model.named_parameters())
    adapter = {name: weight for name, weight in found.items() if "lora_" in name or "modules_to_save" in name}
    found = adapter or found
    for weight in found.values():
        weight.requires_grad_(True)
    return list(found), list(found.values())


def _gradient(
    reader: Reader,
    weights: Sequence[Tensor],
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    mine: ndarray,
    whole: Whole,
    config: Training,
) -> list[Tensor]:
    """Compute, of one term on one group, its share of the gradient on all prompts; in micro-batches, where the run had them."""
    total = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    size = config.micro_batch or config.batch_size
    for first in range(0, len(mine), size):
        part = [int(i) for i in mine[first : first + size]]
        with torch.enable_grad():
            loss = reader.losses(
                reader.student.model, [prompts[i] for i in part], [responses[i] for i in part], whole
            ).total
            found = torch.autograd.grad(loss, weights, allow_unused=True)
        for place, gradient in zip(total, found, strict=True):
            if gradient is not None:
                place += gradient
    return total


def _products(stacked: Tensor, chunk: int = 1 << 22) -> ndarray:
    """Compute the products in doubles, a few million weights at a time."""
    total = torch.zeros(len(stacked), len(stacked), dtype=torch.float64)
    for first in range(0, stacked.shape[1], chunk):
        part = stacked[:, first : first + chunk].double()
        total += (part @ part.T).cpu()
    return total.numpy()


def table(names: Sequence[str], terms: Sequence[str], products: Sequence[ndarray], n: int) -> pd.DataFrame:
    """Make a row per place, pair of terms and measure. Places: every layer's module, a module in all layers, ``all``."""
    places: dict[tuple[str, int], ndarray] = {}
    for name, product in zip(names, products, strict=True):
        module, layer = place_of(_of_base(name))
        for place in dict.fromkeys([("all", -1), (module, -1), (module, layer)]):
            places[place] = places[place] + product if place in places else product
    groups = len(products[0]) // len(terms)
    found = []
    for (module, layer), product in places.items():
        block = product.reshape(len(terms), groups, len(terms), groups)
        for a, term in enumerate(terms):
            for b in range(a, len(terms)):
                for measure in MEASURES:
                    if (measure in ("cosine", "cosine_corrected") and a == b) or (measure == "norm" and a != b):
                        continue
                    value = measured(block[a, :, a], block[a, :, b], block[b, :, b], measure, a == b)
                    found.append((module, layer, term, terms[b], measure, "none", *value, n))
    return pd.DataFrame(found, columns=COLUMNS).astype({"layer": "int32"})


def _of_base(name: str) -> str:
    """Return the name of the weight that an adapter's weight belongs to."""
    name = plain(name).removeprefix("base_model.model.")
    return (
        name.split(".lora_")[0] + ".weight" if ".lora_" in name else name.replace(".modules_to_save.default", "")
    )


def _training(told: Mapping[str, Any]) -> Training:
    """Say how the study trains; one of somebody's own checkpoints does not say: then full vocabulary, temperature 1."""
    settings = told.get("training")
    return Training.model_validate(settings) if isinstance(settings, dict) else Training()


def _room(terms: int, weights: int, clusters: int) -> tuple[int, torch.dtype]:
    """Choose how many groups there are, and in which precision their gradients are kept."""
    possible = [groups for groups in GROUPS if groups <= clusters] or [1]
    for groups in possible:
        for kind, size in ((torch.float32, 4), (torch.bfloat16, 2)):
            if terms * groups * weights * size <= MOST_BYTES:
                return groups, kind
    need = terms * possible[-1] * weights * 2
    raise UserError(
        f"Gradients of {terms} terms in {weights / 1e6:.0f} million weights take {need / 2**30:.0f} GiB in {possible[-1]} "
        f"groups; {MOST_BYTES >> 30} GiB are allowed for. Look at a smaller model, or at an adapter."
    )
