"""Whose adapter is this? An adapter is meaningless on any base but its own, and often loads on one without complaint.

Mental model: beside an adapter's own files lies ``base.json`` with the name and the fingerprint of the base that it was
trained on (adapters from elsewhere have none, and are checked by their tensors' names alone). The fingerprint is taken
of the weights in bfloat16, so that a base loaded in float32 and the same base loaded in bfloat16 are the same.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from cr_interp.errors import UserError
from cr_interp.text_files import read_json

BASE_FILE = "base.json"
WEIGHTS = "adapter_model.safetensors"


def note_base(folder: Path, name: str, fingerprint: str) -> None:
    """Write beside an adapter which base it belongs to."""
    (folder / BASE_FILE).write_text(json.dumps({"base": name, "fingerprint": fingerprint}), encoding="utf-8")


def knows_base(folder: Path) -> bool:
    return (folder / BASE_FILE).is_file()


def check_base(folder: Path, name: str, fingerprint: str) -> None:
    """Refuse a base that is not the one an adapter was made for (``fingerprint``: of the base at hand, in bfloat16)."""
    noted = read_json(folder / BASE_FILE)
    if noted["fingerprint"] != fingerprint:
        raise UserError(
            f"The adapter {folder} was trained on {noted['base']} with the fingerprint {noted['fingerprint']}, but "
            f"{name} here has {fingerprint}: other weights or another configuration. Put back the "
            f"base it was made for, or name it as base_model_name_or_path in the adapter's adapter_config.json."
        )


def check_tensors(folder: Path, name: str, model: Any) -> None:
    """Refuse a LoRA whose tensors are not exactly those that its base has a place for; the library only warns."""
    from peft import get_peft_model_state_dict

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        saved = {key for key in file.keys() if "lora_" in key}  # noqa: SIM118  # not a dictionary
    places = {key for key in get_peft_model_state_dict(model, save_embedding_layers=False) if "lora_" in key}
    if saved != places:
        extra, lacking = sorted(saved - places), sorted(places - saved)
        found = [f"{len(extra)} of its tensors have no place there (such as {extra[0]})"] if extra else []
        found += [f"{len(lacking)} places get none (such as {lacking[0]})"] if lacking else []
        raise UserError(
            f"The adapter {folder} does not fit its base {name}: {' and '.join(found)}. Give the base it was made for."
        )
