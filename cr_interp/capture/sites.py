"""Where each site lives in a model: the module to hook, and whether its input or its output is the state.

Mental model. A decoder block adds two things to the residual stream, and the sites are what one can see of that:

    resid_pre ──┬───────────────(+)── resid_mid ──┬──────────(+)── resid_post      (sequential blocks)
                └ attention ─ z ─┘ attn_out       └── MLP ────┘ mlp_out

    resid_pre + attn_out = resid_mid,  resid_mid + mlp_out = resid_post,  resid_post(l) = resid_pre(l + 1)

Blocks in parallel (GPT-NeoX) have no ``resid_mid``: resid_pre + attn_out + mlp_out = resid_post. ``attn_out`` and
``mlp_out`` are what is *added*, so they come after a post-norm where there is one (Gemma, OLMo-2). ``z`` is what
enters the attention's output projection, the heads side by side (:func:`by_head` splits them). ``resid_pre`` at layer
0 is the embedding; ``resid_post`` of the last block is *before* the final norm, ``final`` after it.

:data:`ARCHITECTURES` is the one place to teach a new architecture: an entry says where its sites are, and
``cr-interp check MODEL`` says whether the entry is right.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.errors import UserError
from cr_interp.models.forward import backbone, unwrap

SiteName = Literal["resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post", "final"]
#: In the order in which a block computes them.
SITE_NAMES: tuple[SiteName, ...] = get_args(SiteName)


class Site(NamedTuple):
    """A place in the network; ``final`` (after the last norm) has layer -1."""

    name: SiteName
    layer: int

    def __str__(self) -> str:
        return f"{self.name}.{self.layer}" if self.layer >= 0 else self.name


class HookPoint(NamedTuple):
    module: nn.Module
    side: Literal["input", "output"]


class Place(NamedTuple):
    """A module inside a block (or, for ``final``, inside the backbone), and which side of it."""

    path: str
    side: Literal["input", "output"]


@dataclass(frozen=True)
class Architecture:
    """The places of one architecture's sites. ``None``: there is no such site."""

    resid_mid: Place | None
    attn_out: Place | None
    mlp_out: Place | None
    z: Place | None
    final: str = "norm"
    blocks: str = "layers"
    parallel: bool = False
    """Attention and MLP read the same residual stream, so nothing is in the middle."""


_O_PROJ = Place("self_attn.o_proj", "input")
#: Pre-norm blocks in Llama's way.
_LLAMA = Architecture(
    resid_mid=Place("post_attention_layernorm", "input"),
    attn_out=Place("self_attn", "output"),
    mlp_out=Place("mlp", "output"),
    z=_O_PROJ,
)
#: Norms on both sides of attention and MLP; what is added is the second norm's output.
_GEMMA = Architecture(
    resid_mid=Place("pre_feedforward_layernorm", "input"),
    attn_out=Place("post_attention_layernorm", "output"),
    mlp_out=Place("post_feedforward_layernorm", "output"),
    z=_O_PROJ,
)
_NEOX = Architecture(
    resid_mid=Place("post_attention_layernorm", "input"),
    attn_out=Place("attention", "output"),
    mlp_out=Place("mlp", "output"),
    z=Place("attention.dense", "input"),
    final="final_layer_norm",
)

#: ``config.model_type`` → where its sites are. Dropout counts as off: a model to look at is in eval mode.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "phi3": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "olmo2": Architecture(
        resid_mid=Place("mlp", "input"),
        attn_out=Place("post_attention_layernorm", "output"),
        mlp_out=Place("post_feedforward_layernorm", "output"),
        z=_O_PROJ,
    ),
    "gpt_neox": _NEOX,
    "gpt_neox:parallel": Architecture(
        None, _NEOX.attn_out, _NEOX.mlp_out, _NEOX.z, final=_NEOX.final, parallel=True
    ),
    "gpt2": Architecture(
        resid_mid=Place("ln_2", "input"),
        attn_out=Place("attn", "output"),
        mlp_out=Place("mlp", "output"),
        z=Place("attn.c_proj", "input"),
        final="ln_f",
        blocks="h",
    ),
}


#: What decoders that are not in the table call their last norm.
FINAL_NORMS = (
    "norm",
    "final_layer_norm",
    "ln_f",
    "final_layernorm",
    "norm_f",
    "final_norm",
    "ln_out",
    "out_norm",
    "embedding_norm",
)


def architecture(model: nn.Module) -> Architecture:
    """Return the model's entry in the table. One that is not there gets what structure alone tells: its blocks' inputs and
    outputs (``resid_pre``, ``resid_post``) and a final norm under a usual name.
    """
    config = unwrap(model).config.get_text_config()
    kind = str(config.model_type)
    if getattr(config, "use_parallel_residual", False) and f"{kind}:parallel" in ARCHITECTURES:
        kind = f"{kind}:parallel"
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    base = backbone(model)
    found = [n for n in ("layers", "h", "blocks") if isinstance(getattr(base, n, None), nn.ModuleList)]
    if not found:
        raise UserError(
            f"{type(base).__name__} (model type '{kind}') has no list of blocks under a name known here (layers, h, "
            f"blocks), so none of its sites can be found. Add it to ARCHITECTURES in cr_interp/capture/sites.py; known are "
            f"{', '.join(sorted(ARCHITECTURES))}."
        )
    norms = [n for n in FINAL_NORMS if hasattr(base, n)]
    return Architecture(None, None, None, None, final=norms[0] if norms else "", blocks=found[0])


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the decoder's blocks, in order."""
    return getattr(backbone(model), architecture(model).blocks)


def places(model: nn.Module) -> dict[SiteName, Place | None]:
    """Map each kind of site to where it is: a path inside a block, or inside the backbone for ``final``. ``None``: nowhere."""
    known = architecture(model)
    return {
        "resid_pre": Place("", "input"),
        "resid_post": Place("", "output"),
        "final": Place(known.final, "output") if known.final else None,
        "resid_mid": known.resid_mid,
        "attn_out": known.attn_out,
        "mlp_out": known.mlp_out,
        "z": known.z,
    }


def place(model: nn.Module, name: SiteName) -> Place | None:
    """Look one kind of site up in :func:`places`."""
    return places(model)[name]


def available(model: nn.Module) -> tuple[SiteName, ...]:
    """List the kinds of sites that this model has, in the order in which a block computes them."""
    found = places(model)
    return tuple(name for name in SITE_NAMES if found[name] is not None)


def all_sites(model: nn.Module) -> list[Site]:
    """Return every site of every layer, in the order in which a forward pass reaches them; ``final`` comes last."""
    names = available(model)
    sites = [Site(n, layer) for layer in range(len(blocks(model))) for n in names if n != "final"]
    return [*sites, Site("final", -1)] if "final" in names else sites


def residual_sites(model: nn.Module) -> list[Site]:
    """Return the embedding and every block's output: the sites of a drift curve."""
    return [Site("resid_pre", 0), *(Site("resid_post", layer) for layer in range(len(blocks(model))))]


def order(site: Site) -> tuple[float, int]:
    """Return the key that sorts sites as a forward pass reaches them."""
    return (float("inf") if site.layer < 0 else site.layer, SITE_NAMES.index(site.name))


def check_sites(model: nn.Module, sites: Collection[Site]) -> None:
    """Raise :class:`UserError` for the first site that the model lacks, naming those it has."""
    if not sites:
        return
    names, layers = available(model), len(blocks(model))
    for site in sites:
        layer_fits = site.layer == -1 if site.name == "final" else 0 <= site.layer < layers
        if site.name in names and layer_fits:
            continue
        kind = unwrap(model).config.get_text_config().model_type
        raise UserError(
            f"There is no site {site.name} at layer {site.layer} in this model ({kind}). It has {', '.join(names)}; layers "
            f"0 to {layers - 1} (final: layer -1)."
        )


def check_site(model: nn.Module, site: Site) -> None:
    """Raise :class:`UserError` for a site the model lacks, naming those it has."""
    check_sites(model, [site])


def path(model: nn.Module, site: Site) -> tuple[str, Literal["input", "output"]]:
    """Return the site's module as a dotted path inside the backbone, and the side; for tools that go by names."""
    check_site(model, site)
    found = place(model, site.name)
    assert found is not None
    if site.name == "final":
        return found
    block = f"{architecture(model).blocks}.{site.layer}"
    return (f"{block}.{found.path}" if found.path else block), found.side


def hook_point(model: nn.Module, site: Site) -> HookPoint:
    """Return the module and side where a site can be read; raises :class:`UserError` for a site the model lacks."""
    name, side = path(model, site)
    return HookPoint(backbone(model).get_submodule(name), side)


def by_head(model: nn.Module, z: Float[Tensor, "*token width"]) -> Float[Tensor, "*token head head_dim"]:
    """Split a flat ``z`` into heads."""
    config: Any = unwrap(model).config.get_text_config()
    return z.unflatten(-1, (config.num_attention_heads, -1))
