"""The TransformerLens backend: the same states by way of ``TransformerBridge`` and its hook points.

Booting a bridge replaces modules of the model and forces eager attention, so it is booted on a copy that shares the
weights (see ``copies.py``), once per model. Its forward takes the library's own cache, so the shared prefix is computed
once here too.

With SDPA in the model and eager attention in the bridge, states differ by about 2e-6 (relative). The bridge writes some
architectures' blocks anew (Falcon with ALiBi: 6 % off; DeepSeek: a crash). So each bridge is tried once, behind a prefix and in
padded rows, against plain hooks on the model; what differs or stops is refused.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture.attention import Cut
from cr_interp.capture.copies import cached, new_cache
from cr_interp.capture.edits import Edits
from cr_interp.capture.hooks import capture as by_hooks
from cr_interp.capture.recorder import Recorder
from cr_interp.capture.sites import Site, SiteName, all_sites
from cr_interp.errors import UserError
from cr_interp.models.forward import (
    Prefix,
    ViewBatch,
    build_view,
    device_of,
    embedded,
    encode_prefix,
    run_inputs,
    unwrap,
)

#: TransformerLens's names for our sites, inside ``blocks.N`` (its post-norm architectures point them behind the norm).
HOOK_NAMES: dict[SiteName, str] = {
    "resid_pre": "hook_resid_pre",
    "z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}
#: Sites that a bridge lacks or has elsewhere: ``config.model_type`` → site → why. Empty for transformer-lens 4.3: in
#: all ten architectures of ``sites.ARCHITECTURES`` every hook point above was found to be our site. A mistake in here
#: or in a later version shows in `cr-interp check MODEL` and in tests/capture/test_capture.py.
EXCEPTIONS: dict[str, dict[SiteName, str]] = {}

_BRIDGES = new_cache()


def capture(
    model: nn.Module,
    view: ViewBatch,
    sites: Sequence[Site],
    prefix: Prefix,
    edits: Edits,
    cut: Cut | None = None,
) -> dict[Site, Float[Tensor, "token width"]]:
    return _states(bridge_of(model), model, view, sites, prefix, edits, cut)


def _states(
    bridge: Any,
    model: nn.Module,
    view: ViewBatch,
    sites: Sequence[Site],
    prefix: Prefix,
    edits: Edits,
    cut: Cut | None = None,
) -> dict[Site, Float[Tensor, "token width"]]:
    device = device_of(model)
    recorder = Recorder(model, view, sites, edits, device)
    hooks = []
    for site in recorder.stops:
        hooks.append((hook_name(model, bridge, site), _visitor(recorder, site)))
    if cut is not None:
        hooks += _cuts(bridge, cut, len(prefix.ids))
    inputs = run_inputs(bridge.original_model, prefix, view.ids.to(device), view.mask.to(device))
    ids = inputs.pop("input_ids")
    with bridge.hooks(fwd_hooks=hooks):
        bridge(ids, return_type=None, logits_to_keep=1, **inputs)
    return recorder.result(sites)


def _cuts(bridge: Any, cut: Cut, start: int) -> list[tuple[str, Any]]:
    """Return hooks on the scores before the softmax, which the mask is already in."""
    blocked = cut.blocked(start)

    def hide(scores: Tensor, hook: Any) -> Tensor:
        return scores.masked_fill(blocked[:, None].to(scores.device), torch.finfo(scores.dtype).min)

    return [(f"blocks.{layer}.attn.hook_attn_scores", hide) for layer in cut.layers]


def _visitor(recorder: Recorder, site: Site) -> Any:
    def hook(state: Tensor, hook: Any) -> Tensor | None:
        flat = state.flatten(2)  # some bridges give z with an axis for the heads
        edited = recorder.visit(site, flat)
        return edited.view_as(state) if recorder.changes(site) else None

    return hook


def hook_name(model: nn.Module, bridge: Any, site: Site) -> str:
    """Return the bridge's hook point for a site; raises :class:`UserError` where the bridge has none."""
    kind = unwrap(model).config.get_text_config().model_type
    exceptions = EXCEPTIONS.get(kind, {})
    name = "ln_final.hook_out" if site.name == "final" else f"blocks.{site.layer}.{HOOK_NAMES[site.name]}"
    if name in bridge.hook_dict and site.name not in exceptions:
        return name
    has = [n for n, hook in HOOK_NAMES.items() if f"blocks.0.{hook}" in bridge.hook_dict and n not in exceptions]
    why = exceptions.get(site.name, f"it has no hook point {name}")
    raise UserError(
        f"TransformerLens's bridge for {kind} cannot show {site}: {why}. It has {', '.join(has)}; use "
        f"backend='hooks' for the others."
    )


def bridge_of(model: nn.Module) -> Any:
    """Return the model's bridge. Raises :class:`UserError` if there is none, or one that computes something else."""

    def made(clone: Any) -> Any:
        bridge = _boot(clone)
        _check(bridge, model)
        return bridge

    return cached(_BRIDGES, model, made)


def _check(bridge: Any, model: nn.Module) -> None:
    """Refuse a bridge whose states are not those of the model, on a few ids in both paddings."""
    kind = type(unwrap(model)).__name__
    rows = embedded(model)
    prompts = [[i % rows for i in (*range(2, 11), first, *range(20, 20 + n))] for first, n in ((11, 1), (12, 5))]
    shown = [site for site in all_sites(model) if _has(bridge, model, site)]
    limit = 1e-3 if next(model.parameters()).dtype == torch.float32 else 5e-2
    paddings: tuple[Literal["right", "left"], ...] = ("right", "left")
    for padding in paddings:
        responses = [[3 % rows, 4 % rows], [5 % rows]]
        view = build_view(prompts, responses, 0, padding=padding)
        prefix = encode_prefix(model, view.prefix)
        if view.prefix and not prefix.keys_values:  # a model that keeps none
            view, prefix = build_view(prompts, responses, 0, 0, padding), Prefix((), ())
        expected = by_hooks(model, view, shown, prefix, {})
        try:
            found = _states(bridge, model, view, shown, prefix, {})
        except Exception as error:  # whatever the bridge's own blocks raise
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"TransformerLens's bridge cannot run {kind} ({type(error).__name__}: {said}). Use backend='hooks'."
            ) from error
        for site in shown:
            norm = expected[site].float().norm()
            difference = (found[site].float() - expected[site].float()).norm()
            if (
                torch.isfinite(norm) and not difference <= limit * norm
            ):  # a state may be zero, as a pruned head's is
                off = (difference / norm).item()
                raise UserError(
                    f"TransformerLens's bridge computes another {kind} than the model is: at {site} its states are off by "
                    f"{off:.1%}. Use backend='hooks'."
                )


def _has(bridge: Any, model: nn.Module, site: Site) -> bool:
    try:
        return bool(hook_name(model, bridge, site))
    except UserError:
        return False


def _boot(clone: Any) -> Any:
    try:
        from transformer_lens.model_bridge.sources import build_bridge_from_module
    except ImportError as error:
        raise UserError(
            "backend='transformer_lens' needs the package transformer-lens (4.3 or newer): `pip install transformer-lens`."
        ) from error
    clone.set_attn_implementation("eager")
    try:
        # Not boot_transformers, which is this plus a tokenizer that nobody needs to pass ids.
        return build_bridge_from_module(clone, type(clone).__name__, hf_config=clone.config)
    except Exception as error:  # no such bridge, a package that it needs, blocks that it does not expect
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"TransformerLens has no bridge for {type(clone).__name__} ({reason}). Use backend='hooks'."
        ) from error
