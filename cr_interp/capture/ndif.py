"""Capture on NDIF's servers: the trace of ``nnsight.py``, submitted instead of run.

Mental model. The model never leaves the server, and a server knows models by hub id; what travels is the trace's
source, the token ids and the edits, and what comes back are the states at the aligned positions. So the model given
here only says *which* one and where its sites are: an adapter, a local folder or weights changed since loading cannot
be looked at remotely. Whole sequences are sent, since a prefix's keys and values do not travel.

``remote=True`` submits, ``remote="local"`` serialises and runs here what would be submitted: a rehearsal without a
network.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture import edits as edits_module
from cr_interp.capture.copies import shared_copy
from cr_interp.capture.edits import Edits
from cr_interp.capture.nnsight import load_nnsight
from cr_interp.capture.recorder import Recorder
from cr_interp.capture.sites import Site, path
from cr_interp.errors import UserError
from cr_interp.models.forward import ViewBatch, unwrap

#: Name, path in the causal model, side, whether to keep it, its edit, the edit of ``resid_mid`` around it, and the
#: site's name and layer.
Stop = tuple[str, str, str, bool, Any, Any, str, int]


def capture(
    model: nn.Module, view: ViewBatch, sites: Sequence[Site], edits: Edits, remote: bool | str
) -> dict[Site, Float[Tensor, "token width"]]:
    """Capture the states of ``sites`` at NDIF. Raises :class:`UserError` for a model that NDIF cannot know, without an API
    key, and with the server's words if it refuses.
    """
    if bool((view.mask[:, 1:] > view.mask[:, :-1]).any()):
        raise UserError("Remote capture takes right-padded views; build the view with padding='right'.")
    nnsight = load_nnsight()
    wrapper = _rehearsal(model, nnsight) if remote == "local" else _server(model, nnsight)
    recorder = Recorder(model, view, sites, edits, torch.device("cpu"))
    stops = _plan(model, recorder)
    # The edits are functions of this package, which a server does not have: they travel by value.
    nnsight.register(edits_module)
    start = len(view.prefix)
    prefix = torch.tensor([view.prefix], dtype=view.ids.dtype).expand(len(view.ids), -1)
    ids = torch.cat([prefix, view.ids], dim=1)
    try:
        found = _submit(wrapper, ids, stops, start, view.rows, view.columns + start, remote)
    except UserError:
        raise
    except Exception as error:  # whatever HTTP client, socket or server raised
        if remote == "local":
            raise
        raise UserError(
            f"NDIF did not run the capture: {type(error).__name__}: {str(error).strip()[:300]}. Check that the model is "
            f"deployed (nnsight.ndif_status()), your API key, and the network; or capture here, with remote=False."
        ) from error
    return {site: found[str(site)] for site in sites}


def _plan(model: nn.Module, recorder: Recorder) -> list[Stop]:
    """Return the recorder's stops as plain data: a server has no cr_interp to visit with."""
    inner = unwrap(model)
    plan: list[Stop] = []
    for site in recorder.stops:
        where, side = path(model, site)
        middle = recorder.middle.get(site.layer) if site.name in ("resid_pre", "attn_out") else None
        plan.append(
            (
                str(site),
                f"{inner.base_model_prefix}.{where}",
                side,
                site in recorder.wanted,
                recorder.edits.get(site),
                middle,
                site.name,
                site.layer,
            )
        )
    return plan


def _submit(
    wrapper: Any,
    ids: Tensor,
    stops: list[Stop],
    start: int,
    rows: Tensor,
    columns: Tensor,
    remote: bool | str,
) -> dict[str, Tensor]:
    """Run the trace at NDIF. Only builtins, torch and the arguments may appear in it."""
    save = load_nnsight().save
    with wrapper.trace(input_ids=ids, attention_mask=torch.ones_like(ids), remote=remote):
        states = {}
        before = {}
        for key, where, side, keep, edit, middle, name, layer in stops:
            envoy = wrapper.get(where)
            several = side == "output" and isinstance(envoy.output, tuple)
            state = envoy.input if side == "input" else envoy.output[0] if several else envoy.output
            given = state
            if edit is not None:
                state = torch.cat([state[:, :start], edit(state[:, start:])], dim=1)
            if keep:
                states[key] = state[rows.to(state.device), columns.to(state.device)].cpu()
            if middle is not None and name == "resid_pre":
                before[layer] = state
            if middle is not None and name == "attn_out":
                whole = before[layer] + state
                whole = torch.cat([whole[:, :start], middle(whole[:, start:])], dim=1)
                state = whole - before[layer]
            if state is not given and side == "input":
                envoy.input = state
            if state is not given and side == "output":
                envoy.output = (state, *envoy.output[1:]) if several else state
        states = save(states)
    return states  # noqa: RET504 -- a trace cannot return


def _server(model: nn.Module, nnsight: Any) -> Any:
    """Return the model as NDIF knows it: its hub id, without weights."""
    if hasattr(model, "get_base_model"):
        raise UserError(
            "NDIF serves models of the hub; it cannot run this adapter. Capture it with remote=False."
        )
    name = str(getattr(unwrap(model).config, "_name_or_path", "") or "")
    if not name or Path(name).exists() or name.count("/") != 1:
        raise UserError(
            f"NDIF knows models by their hub id, and this one was loaded from {name or 'nowhere in particular'!r}. Load "
            f"it from the hub, or capture with remote=False."
        )
    if not nnsight.CONFIG.API.APIKEY:
        raise UserError(
            "Remote capture needs a key of NDIF: get one at https://login.ndif.us and set NDIF_API_KEY (or run "
            "nnsight.CONFIG.set_default_api_key(…) once), or capture with remote=False."
        )
    try:
        return nnsight.TransformersModel(name, task="text-generation")  # the task is part of a deployment's name
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"The hub did not give the configuration of {name}: {error}") from error


def _rehearsal(model: nn.Module, nnsight: Any) -> Any:
    """Return the model itself in the wrapper that serialises as for a server."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    # The wrapper insists on a tokenizer; only ids are passed.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<unk>": 0}, "<unk>")))
    return nnsight.TransformersModel(shared_copy(unwrap(model)), tokenizer=tokenizer)
