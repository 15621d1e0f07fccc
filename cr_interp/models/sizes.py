"""Refuse a model whose description is larger than its weights: the library would build what is described before it compares.

Mental model. ``from_pretrained`` makes every layer that ``config.json`` names and only then opens the weights, so a number that
somebody changed there costs hours and all memory. The weights' headers say what can be there at most: a layer has a tensor of
its own, and no width, vocabulary or set of experts has more entries than the weights have numbers. No tensor is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from cr_interp.errors import UserError
from cr_interp.system.text_files import read_json

#: Counts of layers, each with tensors of its own.
LAYERS = {
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_nextn_predict_layers"),
    *("encoder_layers", "decoder_layers"),
}
#: Sides of tensors, and experts, which may be stacked in one.
SIDES = {
    *(
        "vocab_size",
        "hidden_size",
        "n_embd",
        "d_model",
        "intermediate_size",
        "moe_intermediate_size",
        "n_inner",
        "d_ff",
    ),
    *("ffn_dim", "d_inner", "head_dim", "num_attention_heads", "num_key_value_heads", "n_head", "num_heads"),
    *("num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts"),
}
#: Tensors, and numbers along a side, of weights whose headers cannot be read; loading them fails, with a reason, a little later.
UNREAD, UNREAD_SIDE = 1000, 1 << 14


def refuse_larger(folder: Path) -> None:
    """Raise :class:`UserError` for a folder whose ``config.json`` describes more than its weights can hold."""
    file = folder / "config.json"
    weights = list(folder.glob("*.safetensors"))
    told = read_json(file) if file.is_file() and weights else None
    if not isinstance(told, dict):
        return
    tensors, numbers = _held(weights)
    for key, value in _numbers(told):
        most, what = (tensors, "tensors") if key in LAYERS else (numbers, "numbers")
        if value > most:
            raise UserError(
                f"{folder} is not loaded: its config.json says {key} = {value}, and its weights hold {most} {what}. Take "
                f"config.json and the weights from where the model was published, or save the model again (save_pretrained)."
            )


def _held(files: Sequence[Path]) -> tuple[int, int]:
    """Count the tensors and the numbers in them; a byte may be two numbers of four bits."""
    tensors, numbers = 0, 0
    for file in files:
        numbers += 2 * file.stat().st_size
        try:
            with safe_open(file, framework="numpy") as opened:
                tensors += len(opened.keys())
        except Exception:  # the library's own, bare; whoever loads the weights meets it again and says so
            tensors += UNREAD
            numbers += UNREAD_SIDE
    return tensors, numbers


def _numbers(told: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """List each count and side, also in the parts of a model of text and images."""
    for key, value in told.items():
        if isinstance(value, dict) and key.endswith("_config"):
            yield from _numbers(value)
        elif key in LAYERS | SIDES and isinstance(value, int):
            yield key, value
