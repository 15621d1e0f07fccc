"""LoRA: train a small adapter beside frozen weights, so that one copy of the model is student and teacher.

Mental model. Each chosen linear map W becomes W + s·B·A with B = 0 at first (Hu et al. 2021, arXiv 2106.09685; the
library is ``peft``). The teacher is the same module with the adapter off. Checkpoints hold no weights but its. For
rollouts the adapter is merged into the weights, which makes decoding as fast as without one, and afterwards the very
tensors that were there before are put back: unmerging by subtraction would leave rounding behind in the base.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from cr_interp.errors import NotFinite, UserError
from cr_interp.models.adapters import note_base
from cr_interp.models.forward import unwrap
from cr_interp.models.loading import Loaded, fingerprint
from training.settings import Lora


def with_adapter(loaded: Loaded, chosen: Lora, seed: int) -> Loaded:
    """Put a fresh adapter on the model, the only part of it that is trained. Its random half depends on ``seed`` alone.

    Raises :class:`UserError` if ``peft`` is missing, the model is an adapter already, or the targets do not exist or reach
    the embeddings or the LM head (which student and teacher share).
    """
    try:
        from peft import LoraConfig, get_peft_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as error:
        raise UserError("training.lora needs the package peft: install the extra 'lora'.") from error
    refuse_adapter(loaded)
    maps = [name for name, each in loaded.model.named_modules() if isinstance(each, nn.Linear | Conv1D)]
    base = fingerprint(loaded.model, None, torch.bfloat16)
    targets = chosen.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=chosen.rank,
        lora_alpha=chosen.alpha,  # type: ignore[arg-type]  # annotated as int, used as a factor
        lora_dropout=chosen.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    try:
        with torch.random.fork_rng(devices=[]):  # the model is still on the CPU
            torch.manual_seed(seed)
            model: Any = get_peft_model(cast(Any, loaded.model), config)
    except ValueError as error:
        raise UserError(
            f"training.lora.target_modules = {targets} does not fit {loaded.name}: {str(error).splitlines()[0]} "
            f"Its linear maps are called {', '.join(sorted({name.rpartition('.')[2] for name in maps}))}."
        ) from error
    model.peft_config["default"].base_model_name_or_path = named(loaded.name)  # the library puts in its own
    ends = (unwrap(model).get_output_embeddings(), unwrap(model).get_input_embeddings())
    if any(isinstance(end, BaseTunerLayer) for end in ends):
        raise UserError(
            f"training.lora.target_modules = {targets} reaches the embeddings or the LM head of {loaded.name}, which "
            f"student and teacher share here. Name linear maps inside the layers, or 'all-linear'."
        )
    model.base_fingerprint = base  # of the weights before anything was put beside them
    return replace(loaded, model=cast(Any, model))


def refuse_adapter(loaded: Loaded) -> None:
    """Refuse to train from an adapter: it has most weights frozen, and a run starts from whole ones."""
    if hasattr(loaded.model, "peft_config"):
        raise UserError(
            f"{loaded.name} is an adapter, so it cannot be trained further or carry another one here. Merge it into its "
            f"base (peft's merge_and_unload, then save_pretrained) and give that folder as the model."
        )


def named(name: str) -> str:
    """Name a base as an adapter calls it: a folder by its whole path, so that it is found from anywhere."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def base_fingerprint(model: nn.Module) -> str:
    """Fingerprint the base under an adapter that :func:`with_adapter` made, in bfloat16."""
    return str(cast(Any, model).base_fingerprint)


def is_adapted(model: nn.Module) -> bool:
    return hasattr(model, "peft_config")


def adapter_off(model: nn.Module) -> AbstractContextManager[None]:
    """Switch the adapter off for as long as this is open: what is left is the base model."""
    return cast(Any, model).disable_adapter()


def save_adapter(model: nn.Module, folder: str | Path, state_dict: Any = None) -> None:
    """Save the adapter's files, and which base it was made for."""
    adapted = cast(Any, model)
    adapted.save_pretrained(str(folder), save_embedding_layers=False, state_dict=state_dict)
    (Path(folder) / "README.md").unlink(missing_ok=True)  # the library's form to fill in
    note_base(Path(folder), adapted.peft_config["default"].base_model_name_or_path, base_fingerprint(model))


def plain_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a (merged) model's weights under the names that its base has without an adapter."""
    inner = cast(Any, model).get_base_model() if is_adapted(model) else model
    for name, parameter in inner.named_parameters():
        if "lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter.data


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Merge the adapter into its base while this is open; afterwards the base has its own tensors back, bit for bit.

    Costs a second copy of the adapted weights while it is open. A model without an adapter is left alone. So is one in less
    than float32: adding B·A to bfloat16 weights rounds most of a young adapter away, and the responses would be those of
    another student.
    """
    if not is_adapted(model):
        yield
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [each for each in model.modules() if isinstance(each, BaseTunerLayer)]
    weights: list[nn.Parameter] = [each.get_base_layer().weight for each in layers]
    if any(weight.dtype != torch.float32 for weight in weights):
        yield
        return
    originals: list[Tensor] = [weight.data for weight in weights]
    done: list[Any] = []
    try:
        for layer in layers:
            layer.merge(safe_merge=True)  # into a copy: the original is not written to
            done.append(layer)
        yield
    except ValueError as error:
        if "NaNs detected" in str(error):
            raise NotFinite("The adapter's weights are not finite: its training has diverged.") from error
        raise
    finally:
        for layer in done:
            layer.unmerge()  # for the library's books; what it leaves in the copy is dropped
        for weight, original in zip(weights, originals, strict=True):
            weight.data = original
