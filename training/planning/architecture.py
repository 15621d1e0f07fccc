"""The shape of a model, and how many parameters follow from it: without its weights, and for published models offline.

Mental model: a decoder is an embedding, ``layers`` blocks of attention and a gated MLP, a norm and a head. The four
families of the paper's models differ in three details (biases, norms on queries and keys, tied embeddings), so one closed
form counts them all; any other family is built without memory (on torch's ``meta`` device) and counted.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from cr_interp.errors import UserError
from cr_interp.models.known import ORGANISMS
from cr_interp.system.text_files import read_json
from cr_interp.system.visible import paragraph

TABLE = Path(__file__).parent / "architectures.yaml"
#: Families of the closed form, and (biases of q, k and v; norms on q and k).
DETAILS = {"llama": (False, False), "mistral": (False, False), "qwen2": (True, False), "qwen3": (False, True)}


class Architecture(BaseModel):
    """Names as in the table; ``counted`` is the number of parameters where no closed form is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    intermediate: int
    vocabulary: int
    tied: bool
    positions: int | None = None
    counted: int | None = None
    eager: bool = False
    """Attention that keeps its probabilities; fused kernels do not."""

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def keys(self) -> int:
        """Width of the keys, and of the values: of the grouped heads, once."""
        return self.kv_heads * self.head

    @property
    def block(self) -> int:
        """Parameters of one block: ``d(2h + 2g)·w`` of attention with h heads and g key heads of width w, ``3·d·f`` of the
        gated MLP, ``2d`` of the norms; Qwen2's biases ``(h + 2g)·w``, Qwen3's head norms ``2w``."""
        biases, head_norms = DETAILS.get(self.family, (False, False))
        attention = 2 * self.width * (self.heads + self.kv_heads) * self.head
        attention += (self.heads + 2 * self.kv_heads) * self.head if biases else 0
        attention += 2 * self.head if head_norms else 0
        return attention + 3 * self.width * self.intermediate + 2 * self.width

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and as many of the head."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All of them, tied ones once."""
        if self.counted is not None:
            return self.counted
        return self.layers * self.block + (1 if self.tied else 2) * self.embedding + self.width

    @property
    def body(self) -> int:
        """Parameters that every token meets: all but the embedding and the head."""
        return self.parameters - (1 if self.tied else 2) * self.embedding

    @property
    def kv_bytes(self) -> int:
        """Keys and values of one token in 16 bits, in bytes: 2 · layers · kv_heads · head · 2."""
        return 4 * self.layers * self.kv_heads * self.head


@cache
def published() -> dict[str, Architecture]:
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: Architecture.model_validate(shape) for name, shape in table.items()}


def architecture_of(name: str) -> Architecture:
    """Return the shape of a model by the name that ``load`` would take: of the table, an organism, or a folder's config.json.

    Nothing is downloaded or converted; a hub id that the table lacks is a :class:`UserError`.
    """
    if name in published():
        return published()[name]
    folder = ORGANISMS / name.removeprefix("builtin:organism-") if name.startswith("builtin:") else Path(name)
    if (folder / "config.json").is_file():
        return _of_folder(folder)
    raise UserError(
        f"The shape of '{name}' is not known here and nothing is downloaded to plan. Known: {', '.join(published())}, "
        f"organisms, and any folder with a config.json. Download only that file (`hf download {name} config.json "
        f"--local-dir FOLDER`) and plan with model=FOLDER, or add it to {TABLE.name}."
    )


def _of_folder(folder: Path) -> Architecture:
    told = read_plain(folder / "config.json")
    try:
        if told is not None:
            return of_config(told)
        from transformers import AutoConfig

        return of_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    except Exception as error:  # a file of anybody's: text where a number should be, no heads, sizes of 10^19
        said = paragraph(error, 300) or type(error).__name__
        raise UserError(f"{folder}/config.json is not one that transformers knows: {said}") from error


class _Plain:
    """A ``config.json`` of a family whose closed form is known, read without transformers, which takes seconds to load."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.__dict__.update(data)

    def get_text_config(self) -> "_Plain":
        return self


#: What the closed form needs; a file that leaves one of them to the library's defaults is read by the library.
NEEDED = (
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
    "head_dim",
)


def read_plain(file: Path) -> Any:
    """Read the file as a configuration. None if its family has no closed form, or if it leaves anything to defaults."""
    data = read_json(file, "the config.json of a model")
    told = isinstance(data, dict) and all(data.get(name) is not None for name in NEEDED)
    biased = told and (data.get("attention_bias") or data.get("mlp_bias"))
    return _Plain(data) if told and data.get("model_type") in DETAILS and not biased else None


def of_config(config: Any) -> Architecture:
    """Read the shape of a transformers configuration; other names for the same number are looked for in order."""
    config = config.get_text_config()
    heads, width = config.num_attention_heads, config.hidden_size
    family = str(config.model_type)
    plain = not (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False))
    return Architecture(
        family=family,
        layers=config.num_hidden_layers,
        width=width,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head=getattr(config, "head_dim", None) or width // heads,
        intermediate=getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width,
        vocabulary=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
        positions=getattr(config, "max_position_embeddings", None),
        counted=None if family in DETAILS and plain else count(config),
        # Gemma-2 caps its scores, which the fused kernels do not.
        eager=family == "gemma2" or getattr(config, "_attn_implementation", None) == "eager",
    )


def count(config: Any) -> int:
    """Count the parameters of a model of this configuration, built without memory; shared ones once."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())
