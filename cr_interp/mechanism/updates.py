"""Updates: what training changed in the weights, module by module, without running the model.

Mental model. ΔW is a checkpoint's weight minus its base's; of an adapter, the effective weight (merged) minus the base's. One
tensor is looked at after the other, read from the files.

    norm, relative   ‖ΔW‖, and ‖ΔW‖/‖W‖: small matrices have small norms, so the two may rank modules differently
    stable_rank      ‖ΔW‖²_F / ‖ΔW‖²₂: over how many directions the update is spread
    top_share        ‖UᵀΔW V‖² / ‖ΔW‖², U and V the leading tenth of W's singular vectors: is it where W was strong?
    unchanged_bf16   the share of weights that are the same number once both are rounded to bfloat16

Beside stable rank and top share stands ``random``: what a Gaussian matrix of the same shape has (mn/(√m + √n)² and k²/mn).
Two runs' updates are compared by their cosine and by how much of one's leading singular space lies in the other's; random
ones have a cosine within ±1.96/√(mn) and share k/m of the space. Two seeds of one arm say how alike updates can be at all.
"""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.errors import UserError
from cr_interp.mechanism.given import Weights
from cr_interp.models.tensors import Tensors, open_tensors

#: The share of W's singular directions that are its leading ones, and how many of ΔW's are compared between runs.
LEADING, DIRECTIONS = 0.1, 8
#: A name's parts before and behind the number of the layer.
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.(.+)$")
_KIND = ["module", "layer", "measure", "control", "estimate", "low", "high", "n_weights"]
_PAIR = ["other_arm", "other_seed", *_KIND]

Matrix = Float[Tensor, "out in"]


def rows(given: Weights) -> dict[str, pd.DataFrame]:
    """Compute the tables ``update_overlaps`` and ``updates`` of one checkpoint."""
    return compare(
        open_tensors(given.checkpoint),
        open_tensors(given.base),
        {run: open_tensors(where) for run, where in given.others.items()},
        given.progress,
    )


@torch.no_grad()
def compare(
    mine: Tensors,
    base: Tensors,
    others: dict[tuple[str, int], Tensors] | None = None,
    progress: object = None,
) -> dict[str, pd.DataFrame]:
    """Compute both tables from opened checkpoints.

    Raises :class:`UserError` for a checkpoint whose tensors are not its base's, by name or by shape.
    """
    common = [key for key in base if key in mine]
    if not common:
        raise UserError(
            f"{mine.name} and {base.name} have no tensor of one name, so they are not models of one architecture. Name the model "
            f"that the checkpoint was trained from."
        )
    found: list[dict[str, object]] = []
    pairs: list[dict[str, object]] = []
    for number, key in enumerate(common):
        before, after = base[key], mine[key]
        if before.shape != after.shape:
            raise UserError(
                f"{key} has the shape {tuple(after.shape)} in {mine.name} and {tuple(before.shape)} in {base.name}. Name the "
                f"model that the checkpoint was trained from."
            )
        if not before.is_floating_point():
            continue
        module, layer = place_of(key)
        where: dict[str, object] = {"module": module, "layer": layer, "n_weights": before.numel()}
        weight, change = before.float(), after.float() - before.float()
        for measure, control, value in _of_one(weight, change, before, after):
            found.append({**where, "measure": measure, "control": control, "estimate": value})
        for (arm, seed), other in (others or {}).items():
            if key in other and other[key].shape == before.shape:
                whose = {**where, "other_arm": arm, "other_seed": seed}
                for measure, control, value, reach in _of_two(change, other[key].float() - weight):
                    ends = {"low": value - reach, "high": value + reach} if reach is not None else {}
                    pairs.append({**whose, "measure": measure, "control": control, "estimate": value, **ends})
        if callable(progress):
            progress(number + 1, len(common))
    return {"update_overlaps": _table(pairs, _PAIR), "updates": _table(found, _KIND)}


def place_of(name: str) -> tuple[str, int]:
    """Return a tensor's module and layer; −1 where it is in no layer.

    >>> place_of("model.layers.3.self_attn.q_proj.weight"), place_of("transformer.wte.weight")
    (('self_attn.q_proj', 3), ('wte', -1))
    """
    match = _LAYER.search(name)
    if match:
        return match[2].removesuffix(".weight"), int(match[1])
    return ".".join(name.removesuffix(".weight").split(".")[-2:]).removeprefix("model.").removeprefix(
        "transformer."
    ), -1


def _of_one(
    weight: Float[Tensor, "..."], change: Float[Tensor, "..."], before: Tensor, after: Tensor
) -> Iterator[tuple[str, str, float]]:
    size, norm = float(weight.norm()), float(change.norm())
    yield "relative", "none", norm / size if size else float("nan")
    yield "norm", "none", norm
    yield "weight_norm", "none", size
    yield "unchanged_bf16", "none", float((before.bfloat16() == after.bfloat16()).float().mean())
    if weight.dim() != 2 or not norm:
        return
    m, n = weight.shape
    yield "stable_rank", "none", norm**2 / float(spectrum(change)[0]) ** 2
    yield "stable_rank", "random", m * n / (m**0.5 + n**0.5) ** 2
    k = max(1, round(LEADING * min(m, n)))
    left, right = leading(weight, k)
    yield "top_share", "none", float((left.T @ change @ right).norm()) ** 2 / norm**2
    yield "top_share", "random", k * k / (m * n)


def _of_two(
    one: Float[Tensor, "..."], other: Float[Tensor, "..."]
) -> Iterator[tuple[str, str, float, float | None]]:
    """Measure, control, value, and how far 95 % of the control's values reach from it."""
    sizes = float(one.norm()) * float(other.norm())
    if not sizes:
        return
    yield "cosine", "none", float((one.double() * other.double()).sum()) / sizes, None
    yield "cosine", "random", 0.0, 1.96 / one.numel() ** 0.5
    if one.dim() != 2:
        return
    k = min(DIRECTIONS, *one.shape)
    for side, mine, theirs, width in zip(
        ("output_space", "input_space"), leading(one, k), leading(other, k), one.shape, strict=True
    ):
        yield side, "none", float((mine.T @ theirs).norm()) ** 2 / k, None
        yield side, "random", k / width, None


def spectrum(matrix: Matrix) -> Float[Tensor, " rank"]:
    """Compute singular values, the largest first, from the Gram matrix of the shorter side."""
    return _gram(matrix)[0]


def leading(matrix: Matrix, k: int) -> tuple[Float[Tensor, "out k"], Float[Tensor, "in k"]]:
    """Return the ``k`` leading left and right singular vectors, as columns."""
    _, vectors = _gram(matrix)
    short = vectors[:, :k]
    wide = matrix.shape[0] <= matrix.shape[1]
    # The other side's are what the matrix makes of these; a direction without a value is made orthogonal all the same.
    long, _ = torch.linalg.qr((matrix.T if wide else matrix).to(short) @ short)
    return (short.float(), long.float()) if wide else (long.float(), short.float())


def _gram(matrix: Matrix) -> tuple[Float[Tensor, " rank"], Float[Tensor, "short rank"]]:
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    scale = float(short.abs().max()) or 1.0
    # Squaring halves the digits: doubles where that is cheap.
    short = (short / scale).to(torch.float64 if len(short) <= 1024 else torch.float32)
    values, vectors = torch.linalg.eigh(short @ short.T)
    return values.flip(0).clamp(min=0).sqrt() * scale, vectors.flip(1)


def _table(found: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(found, columns=columns)
    kinds = {"layer": "int32", "n_weights": "int64", "estimate": float, "low": float, "high": float}
    return table.astype(kinds | ({"other_seed": "int64"} if "other_seed" in columns else {})).replace(
        np.inf, np.nan
    )
