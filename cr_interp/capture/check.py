"""Is what is captured from *your* model what its name says? Every claim that can be checked on the model itself.

Mental model. The site table (``sites.py``) says where each state is; a wrong entry shows as sums that do not add up. The
layout (padding, a prefix computed once) must not show in any state. The other backends find the same states by roads
of their own. Each check gives one number, the largest relative difference over sites, and passes below its limit.

Inputs are random token ids: what is checked does not depend on the text. How a model is run (batches, pads, the prefix,
decoding, lengths on both sides of what its configuration names) is checked in ``check_running.py``.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from rich.box import HEAVY_HEAD
from rich.table import Table
from torch import Tensor, nn

from cr_interp.capture import BACKENDS, capture
from cr_interp.capture.check_running import check_running, runs_as_said
from cr_interp.capture.checks import Check, States, compare, limit_for
from cr_interp.capture.copies import shared_copy
from cr_interp.capture.sites import (
    Site,
    SiteName,
    all_sites,
    architecture,
    available,
    blocks,
    hook_point,
    place,
)
from cr_interp.errors import UserError, unknown
from cr_interp.models.forward import ViewBatch, backbone, build_view, device_of, unwrap
from cr_interp.system.shown import PlainTable, literal

PACKAGES = {"transformer_lens": "transformer-lens", "nnsight": "nnsight"}


def check_model(
    model: nn.Module, pad_id: int = 0, backends: Sequence[str] | None = None, longest: int = 2048
) -> list[Check]:
    """Run all checks with the same attention kernel (eager), so that the backends cannot differ by theirs. The model itself
    is not changed: the checks run on a copy that shares its weights. ``longest`` bounds the sequences (tokens).
    """
    wanted = list(BACKENDS) if not backends else list(dict.fromkeys(backends))
    for name in wanted:
        if name not in BACKENDS:
            raise unknown("capture backend", name, BACKENDS)
    given: Any = unwrap(model)
    eager = shared_copy(given).eval()
    eager.set_attn_implementation("eager")
    running = [runs_as_said(eager), *check_running(eager, pad_id, longest)]
    limit = limit_for(next(eager.parameters()).dtype)
    views = {
        "no_context": _layouts(eager, pad_id, context=0),
        "with_context": _layouts(eager, pad_id, context=24),
    }
    sites = all_sites(eager)
    states = {view: capture(eager, layouts["right"], sites) for view, layouts in views.items()}
    checks = [*running, *check_sums(eager, states["with_context"], limit)]
    for view, layouts in views.items():
        claim = f"{view}: the library's hidden_states, one by one"
        try:
            plain = _library_states(eager, layouts["whole"])
        except ValueError as error:  # more or fewer than one before every block and one at the end
            checks.append(Check(claim, "fail", where=str(error)[:200]))
        else:
            tried = [compare(claim, found, states[view], limit) for found in plain if found]
            checks.append(min(tried, key=lambda check: (check.status == "fail", check.difference)))
        for layout, what in (
            ("left", "left padding = right padding"),
            ("whole", "shared prefix = whole sequences"),
        ):
            found = capture(eager, layouts[layout], sites)
            checks.append(compare(f"{view}: {what}", found, states[view], limit))
    for name in wanted:
        if name != "hooks":
            checks.append(_check_backend(eager, name, views, states, limit))
    kernel = given.config._attn_implementation
    if kernel != "eager":
        found = capture(model, views["with_context"]["right"], sites)
        claim = f"attention '{kernel}', as loaded = eager"
        checks.append(compare(claim, found, states["with_context"], max(1e-4, limit)))
    return checks


def check_sums(model: nn.Module, states: States, limit: float = 1e-5) -> list[Check]:
    """Check what a block adds up to, and what leads from one site to the next, where the architecture has the sites."""
    names, layers = available(model), range(len(blocks(model)))
    sums: list[tuple[tuple[SiteName, ...], SiteName]] = [
        (("resid_pre", "attn_out"), "resid_mid"),
        (("resid_mid", "mlp_out"), "resid_post"),
    ]
    if architecture(model).parallel:
        sums = [(("resid_pre", "attn_out", "mlp_out"), "resid_post")]
    checks = []
    for terms, total in sums:
        claim = f"{' + '.join(terms)} = {total}"
        if not {*terms, total} <= set(names):
            checks.append(Check(claim, "skipped", where=f"this architecture has {', '.join(names)}"))
            continue
        added = {
            Site(total, layer): sum((states[Site(t, layer)].float() for t in terms), torch.tensor(0.0))
            for layer in layers
        }
        checks.append(compare(claim, added, states, limit))
    following = {Site("resid_pre", layer + 1): states[Site("resid_post", layer)] for layer in layers[:-1]}
    if following:
        checks.append(compare("resid_post(l) = resid_pre(l + 1)", following, states, limit))
    if "final" in names:
        norm = hook_point(model, Site("final", -1)).module
        last = {Site("final", -1): norm(states[Site("resid_post", layers[-1])]).detach()}
        checks.append(compare("norm(resid_post of the last layer) = final", last, states, limit))
    if {"z", "attn_out"} <= set(names):
        projected = {Site("attn_out", layer): _from_z(model, states, layer) for layer in layers}
        checks.append(compare("output projection of z = attn_out", projected, states, limit))
    return checks


@torch.no_grad()
def _from_z(model: nn.Module, states: States, layer: int) -> Tensor:
    """Pass z through the output projection, and through the norm behind attention if the architecture has one."""
    out = hook_point(model, Site("z", layer)).module(states[Site("z", layer)])
    z, attention = place(model, "z"), place(model, "attn_out")
    assert z is not None
    assert attention is not None
    inside = z.path.startswith(f"{attention.path}.")
    return out if inside else hook_point(model, Site("attn_out", layer)).module(out)


def _check_backend(
    model: nn.Module,
    name: str,
    views: dict[str, dict[str, ViewBatch]],
    states: dict[str, States],
    limit: float,
) -> Check:
    claim = f"backend {name} = hooks, both views and paddings"
    if find_spec(name) is None:
        return Check(claim, "skipped", where=f"not installed (pip install {PACKAGES[name]})")
    checks = []
    try:
        for view, layouts in views.items():
            for layout in ("right", "left"):
                found = capture(model, layouts[layout], list(states[view]), backend=name)
                checks.append(compare(claim, found, states[view], limit))
    except UserError as error:  # it says what it lacks
        return Check(claim, "skipped", where=str(error))
    except Exception as error:  # whatever another library raises is a finding, not a crash
        return Check(claim, "fail", where=f"{type(error).__name__}: {str(error).strip()[:200]}")
    return max(checks, key=lambda check: (check.status == "fail", check.difference))


def _layouts(model: nn.Module, pad_id: int, context: int) -> dict[str, ViewBatch]:
    """Return three prompts of different lengths, in every layout that must not matter."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = unwrap(model).config.get_text_config().vocab_size

    def ids(n: int) -> list[int]:
        return torch.randint(min(8, vocabulary // 2), vocabulary, (n,), generator=generator).tolist()

    shared = ids(context + 1)
    prompts = [[*shared, *ids(n)] for n in (5, 9, 2)]
    responses = [ids(n) for n in (4, 2, 3)]
    build: Callable[..., ViewBatch] = build_view
    return {
        "right": build(prompts, responses, pad_id),
        "left": build(prompts, responses, pad_id, padding="left"),
        "whole": build(prompts, responses, pad_id, 0),
    }


@torch.no_grad()
def _library_states(model: nn.Module, view: ViewBatch) -> list[States]:
    """Read our sites off ``output_hidden_states``: no hooks, no padding, no cache. Most models give what enters each block
    and then the last norm's output; state-space models give what leaves each block. Both readings are returned, to be tried.

    Raises :class:`ValueError` for a model that gives another number of states.
    """
    device = device_of(model)
    layers = range(len(blocks(model)))
    final = Site("final", -1)
    readings: list[list[Site]] = [
        [*(Site("resid_pre", layer) for layer in layers), final],
        [*(Site("resid_post", layer) for layer in layers), final],
    ]
    parts: list[dict[Site, list[Tensor]]] = [
        {site: [] for site in reading if site.name in available(model)} for reading in readings
    ]
    for row in range(len(view.ids)):
        ids = view.ids[row][view.mask[row]].to(device)
        hidden = backbone(model)(input_ids=ids[None], output_hidden_states=True, use_cache=False).hidden_states
        columns = view.columns[view.rows == row].to(device)
        for reading, found in zip(readings, parts, strict=True):
            for site, state in zip(reading, hidden, strict=True):
                if site in found:
                    found[site].append(state[0, columns.to(state.device)])
    return [{site: torch.cat(states) for site, states in found.items()} for found in parts]


def check_table(checks: Iterable[Check], title: str) -> Table:
    """Make the table for the terminal."""
    table = PlainTable(title, box=HEAVY_HEAD)
    table.add_column("claim")
    table.add_column("relative difference", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("worst at", overflow="fold")
    table.add_column("result")
    colours = {"pass": "green", "fail": "bold red", "skipped": "yellow"}
    for check in checks:
        table.add_row(
            check.claim,
            "" if check.difference is None else f"{check.difference:.1e}",
            "" if check.limit is None else f"{check.limit:.0e}",
            check.where,
            literal(check.status, colours[check.status]),
        )
    return table
