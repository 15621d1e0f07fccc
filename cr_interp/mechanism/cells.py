"""Cells: what one patch replaces. A site of one layer, a window of layers, or a head.

Mental model. A cell names the states that one patch replaces at every aligned position:

    Cell(Site("attn_out", 3))                what the attention of layer 3 adds
    Cell(Site("attn_out", 3), width=2)       of layers 3 and 4, both at once
    Cell(Site("z", 3), head=5)               head 5's part of what enters layer 3's output projection

There are no windows of ``resid_post``: its last layer overwrites what the others did. With grouped keys and values, the heads
are those of the queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture.sites import Site, available, blocks, check_site, place
from cr_interp.errors import UserError
from cr_interp.models.forward import unwrap

#: Kinds of sites that have windows: each layer adds to the residual stream, and no layer undoes what another added.
WINDOWED = ("attn_out", "mlp_out", "z")
WIDTHS = (2, 4)


@dataclass(frozen=True)
class Cell:
    site: Site
    """The site of the first layer, where the cell is a window."""
    head: int | None = None
    width: int = 1

    @property
    def sites(self) -> list[Site]:
        return [Site(self.site.name, self.site.layer + i) for i in range(self.width)]

    def __str__(self) -> str:
        head = "" if self.head is None else f".{self.head}"
        return f"{self.site}{head}" + (f"+{self.width - 1}" if self.width > 1 else "")


def site_cells(model: nn.Module, names: Sequence[str]) -> list[Cell]:
    """List the cells of some kinds of sites, layer by layer. With ``resid_post`` the embedding comes first, where the curve
    begins.

    Raises :class:`UserError` for a kind that the model lacks.
    """
    kinds = _kinds(model, names)
    sites = [Site(name, layer) for layer in range(len(blocks(model))) for name in kinds]
    if "resid_post" in kinds and "resid_pre" not in kinds:
        sites = [Site("resid_pre", 0), *sites]
    return [Cell(site) for site in sites]


def window_cells(model: nn.Module, names: Sequence[str], widths: Sequence[int]) -> list[Cell]:
    """List every window of the given widths, of those ``names`` that are in :data:`WINDOWED`.

    Without ``widths``: those of :data:`WIDTHS` that are not wider than the model is deep. Raises :class:`UserError` for a
    kind that the model lacks, and for a window that is wider than the model is deep.
    """
    kinds, layers = [name for name in _kinds(model, names) if name in WINDOWED], len(blocks(model))
    widths = widths or [width for width in WIDTHS if width <= layers]
    for width in widths:
        if not 1 <= width <= layers:
            raise UserError(
                f"A window of {width} layers does not fit into this model, which has {layers}. Give widths from 1 to {layers}, "
                f"for example --windows {min(2, layers)}."
            )
    return [
        Cell(Site(name, layer), None, width)
        for layer in range(layers)
        for name in kinds
        for width in widths
        if layer + width <= layers
    ]


def head_cells(model: nn.Module) -> list[Cell]:
    """List every head of every layer.

    Raises :class:`UserError` for a model whose heads cannot be told apart.
    """
    if place(model, "z") is None:
        check_site(model, Site("z", 0))  # says which sites there are
    return [Cell(Site("z", layer), head) for layer in range(len(blocks(model))) for head in range(heads(model))]


def heads(model: nn.Module) -> int:
    """Count the query heads of a layer."""
    return int(unwrap(model).config.get_text_config().num_attention_heads)


def part(model: nn.Module, cell: Cell, states: Float[Tensor, "token width"]) -> slice:
    """Tell which entries of a state the cell replaces: a head's, or all."""
    if cell.head is None:
        return slice(None)
    size = states.shape[-1] // heads(model)
    return slice(cell.head * size, (cell.head + 1) * size)


def _kinds(model: nn.Module, names: Sequence[str]) -> list[Any]:
    for name in names:
        if name not in available(model):
            check_site(model, Site(name, 0))  # type: ignore[arg-type]
    return [name for name in available(model) if name in names]
