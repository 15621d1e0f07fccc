"""How the sequences of a view lie in a batch: a shared prefix, padded rows, and where the aligned positions are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cr_interp.errors import UserError
from cr_interp.views import aligned_positions, shared_prefix


@dataclass(frozen=True)
class ViewBatch:
    """One view of a batch: a shared prefix, and padded rows (right-padded by default) that hold the rest.

    The last token of a response predicts nothing that is compared, so it is not among the inputs.
    """

    prefix: tuple[int, ...]
    ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]
    rows: Int[Tensor, " token"]
    """Which row each aligned position is in …"""
    columns: Int[Tensor, " token"]
    """… and at which column of ``ids``."""
    targets: Int[Tensor, " token"]
    """The response token that each aligned position predicts."""


def build_view(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    pad_id: int,
    prefix_length: int | None = None,
    padding: Literal["right", "left"] = "right",
) -> ViewBatch:
    """Lay out prompts and responses (lists of ids). ``prefix_length=0`` turns sharing off, ``None`` finds it.

    Both paddings give the same states; right padding is faster, since it needs no mask. Raises :class:`UserError` for
    prompts that do not begin with the prefix they are said to share.
    """
    shared = shared_prefix(prompts) if prefix_length is None else prefix_length
    if any(list(prompt[:shared]) != list(prompts[0][:shared]) for prompt in prompts):
        raise UserError(
            f"The prompts do not all begin with the same {shared} tokens. If the later turns of a task begin otherwise than "
            f"its first ones, set training.share_prefix=false."
        )
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    inputs: list[list[int]] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        positions = aligned_positions(len(prompt) - shared, len(response))
        rows += [row] * len(response)
        columns += positions
        targets += list(response)
        inputs.append([*prompt[shared:], *response[:-1]])
    length = max(len(each) for each in inputs)
    pads = [[pad_id] * (length - len(each)) for each in inputs]
    lengths = torch.tensor([len(each) for each in inputs])
    if padding == "left":
        ids = torch.tensor([pad + each for pad, each in zip(pads, inputs, strict=True)])
        mask = torch.arange(length)[None] >= length - lengths[:, None]
        columns = [column + len(pads[row]) for row, column in zip(rows, columns, strict=True)]
    else:
        ids = torch.tensor([each + pad for pad, each in zip(pads, inputs, strict=True)])
        mask = torch.arange(length)[None] < lengths[:, None]
    return ViewBatch(
        tuple(prompts[0][:shared]), ids, mask, torch.tensor(rows), torch.tensor(columns), torch.tensor(targets)
    )


def is_right_padded(mask: Bool[Tensor, "batch length"]) -> bool:
    """Tell whether every row's tokens come first."""
    return bool((mask[:, 1:] <= mask[:, :-1]).all())
