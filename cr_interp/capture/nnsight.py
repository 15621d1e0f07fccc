"""The nnsight backend: the same states by way of a trace, here or (``remote=True``) on NDIF's servers.

A trace compiles the body of its ``with`` block from this file's source, so it has to stay in a file. The model it
instruments is a copy that shares the weights (see ``copies.py``); nnsight is kept from mounting ``.save`` on every
object of the process, unless the user imported it first.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from cr_interp.capture.attention import Cut, attention_path, cut_off
from cr_interp.capture.copies import cached, new_cache
from cr_interp.capture.edits import Edits
from cr_interp.capture.recorder import Recorder
from cr_interp.capture.sites import Site, order, path
from cr_interp.errors import UserError
from cr_interp.models.forward import Prefix, ViewBatch, backbone, device_of, run_inputs

_WRAPPERS = new_cache()


def capture(
    model: nn.Module,
    view: ViewBatch,
    sites: Sequence[Site],
    prefix: Prefix,
    edits: Edits,
    cut: Cut | None = None,
) -> dict[Site, Float[Tensor, "token width"]]:
    save = load_nnsight().save
    device = device_of(model)
    recorder = Recorder(model, view, sites, edits, device)
    stops: list[tuple[Site, str, str, bool]] = [
        (site, *path(model, site), recorder.changes(site)) for site in recorder.stops
    ]
    blocked: Any = None if cut is None else cut.blocked(len(prefix.ids))
    for layer in (
        () if cut is None else cut.layers
    ):  # after what enters the block, before what its attention gives
        stops.append((Site("z", layer), attention_path(model, layer), "mask", True))
    stops.sort(key=lambda stop: (*order(stop[0]), stop[2] != "mask"))
    inputs = run_inputs(model, prefix, view.ids.to(device), view.mask.to(device))
    wrapper = cached(_WRAPPERS, model, _wrap)
    with wrapper.trace(**inputs):
        for site, where, side, changed in stops:
            envoy = wrapper.get(where)
            if side == "mask":
                args, kwargs = envoy.inputs
                envoy.inputs = (
                    args,
                    {**kwargs, "attention_mask": cut_off(kwargs.get("attention_mask"), blocked)},
                )
            elif side == "input":
                state = recorder.visit(site, envoy.input)
                if changed:
                    envoy.input = state
            else:
                output = envoy.output
                several = isinstance(output, tuple)
                state = recorder.visit(site, output[0] if several else output)
                if changed:
                    envoy.output = (state, *output[1:]) if several else state
        found = save(recorder.found)  # noqa: F841 -- the recorder has them; a trace wants something saved
    return recorder.result(sites)


def _wrap(clone: Any) -> Any:
    return load_nnsight().NNsight(backbone(clone))


def load_nnsight() -> ModuleType:
    """Import nnsight without its mount of ``.save`` on ``object``, which it decides on while being imported.

    Its switch is read from a settings file, so one is given for the moment of the import, with the user's own settings
    in it.
    """
    if "nnsight" not in sys.modules:
        user = Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "nnsight" / "config.yaml"
        before = os.environ.get("NNSIGHT_CONFIG")
        given = Path(before).expanduser() if before else user
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "config.yaml"
            settings.write_text(_without_mount(given), encoding="utf-8")
            os.environ["NNSIGHT_CONFIG"] = str(settings)
            try:
                import nnsight
            except ImportError as error:
                raise UserError(
                    "backend='nnsight' needs the package nnsight (0.8 or newer): `pip install nnsight`."
                ) from error
            finally:
                if before is None:
                    del os.environ["NNSIGHT_CONFIG"]
                else:
                    os.environ["NNSIGHT_CONFIG"] = before
    import nnsight

    return nnsight


def _without_mount(settings: Path) -> str:
    import yaml

    found = yaml.safe_load(settings.read_text(encoding="utf-8")) if settings.is_file() else None
    known: dict[str, Any] = found if isinstance(found, dict) else {}
    return yaml.safe_dump({**known, "APP": {**(known.get("APP") or {}), "PYMOUNT": False}})
