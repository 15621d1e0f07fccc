"""Where each site lives in a model: the module to hook, and whether its input or its output is the state.

A site is a name and a layer. ``resid_pre`` at layer 0 is the embedding; ``resid_post`` at layer L is the residual
stream after block L, which for the last block is *before* the final norm (``hidden_states[-1]`` of Hugging Face is
after it). Residual sites are found by structure, as the inputs and outputs of the decoder's blocks.
"""

from typing import Literal, NamedTuple

from torch import nn

from cr_interp.errors import UserError
from cr_interp.forward import backbone

SiteName = Literal["resid_pre", "resid_post", "final"]
SITE_NAMES: tuple[SiteName, ...] = ("resid_pre", "resid_post", "final")


class Site(NamedTuple):
    """A place in the network; ``final`` (after the last norm) has layer -1."""

    name: SiteName
    layer: int

    def __str__(self) -> str:
        return f"{self.name}.{self.layer}" if self.layer >= 0 else self.name


class HookPoint(NamedTuple):
    module: nn.Module
    side: Literal["input", "output"]


def blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder's blocks, in order."""
    base = backbone(model)
    for name in ("layers", "h", "blocks"):
        found = getattr(base, name, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise UserError(
        f"{type(base).__name__} has no list of blocks under a name known here (layers, h, blocks). "
        f"Add its architecture to cr_interp/sites.py."
    )


def residual_sites(model: nn.Module) -> list[Site]:
    """The embedding and every block's output: the sites of a drift curve."""
    return [Site("resid_pre", 0), *(Site("resid_post", layer) for layer in range(len(blocks(model))))]


def hook_point(model: nn.Module, site: Site) -> HookPoint:
    """The module and side where a site can be read; raises :class:`UserError` for a site the model lacks."""
    layers = blocks(model)
    if site.name == "final":
        base = backbone(model)
        for name in ("norm", "final_layer_norm", "ln_f"):
            if isinstance(getattr(base, name, None), nn.Module):
                return HookPoint(getattr(base, name), "output")
        raise UserError(f"{type(base).__name__} has no final norm under a name known here; use the resid sites.")
    if site.name not in SITE_NAMES or not 0 <= site.layer < len(layers):
        raise UserError(
            f"There is no site {site.name} at layer {site.layer}. Sites: {', '.join(SITE_NAMES)}; "
            f"layers 0 to {len(layers) - 1}."
        )
    return HookPoint(layers[site.layer], "input" if site.name == "resid_pre" else "output")
