"""Adapters: whose is it, is all of it there, and does it act on whoever runs the model inside it?

Mental model. Everything here runs the Hugging Face model inside PEFT's wrapper. An adapter that changes that model's layers
(LoRA, DoRA, IA3, …) acts there as well. An adapter that the wrapper puts in front of the sequence (prompt tuning and its
like) does not: it would be lost without a word, so it is refused. Adapters often load on a base that is not theirs: beside
their own files lies ``base.json`` with the name and the fingerprint of the base that they were trained on (adapters from
elsewhere have none). The fingerprint is taken of the weights in bfloat16, so that a base loaded in float32 and the same base
loaded in bfloat16 are the same. What is in the file has to be what is in the model afterwards, tensor by tensor.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cr_interp.configuration import brief
from cr_interp.errors import UserError
from cr_interp.models.bombs import refuse_endless
from cr_interp.models.forward import device_of, embedded
from cr_interp.models.weights import first_few, plain, unwrapped
from cr_interp.system.text_files import read_json

BASE_FILE = "base.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
#: Kinds that need more than the model inside the wrapper: a router, a task's number, the wrapper's own forward.
BESIDE_THE_MODEL = ("ADAPTION_PROMPT", "XLORA", "POLY")
#: Settings of LoRA by which its wrapper decides, sequence by sequence, where it is on: after a phrase, by a router.
CONDITIONAL = ("alora_invocation_tokens", "arrow_config")
#: Initialisations of LoRA that move the base's weights: what the adapter is added to is not what is in the base's files.
MOVES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def note_base(folder: Path, name: str, fingerprint: str) -> None:
    """Write beside an adapter which base it belongs to."""
    (folder / BASE_FILE).write_text(json.dumps({"base": name, "fingerprint": fingerprint}), encoding="utf-8")


def knows_base(folder: Path) -> bool:
    return (folder / BASE_FILE).is_file()


def check_base(folder: Path, name: str, fingerprint: str) -> None:
    """Refuse a base that is not the one an adapter was made for (``fingerprint``: of the base at hand, in bfloat16)."""
    noted = read_json(folder / BASE_FILE)
    if not isinstance(noted, dict) or not isinstance(noted.get("fingerprint"), str):
        raise UserError(
            f"{folder / BASE_FILE} does not say which base the adapter belongs to. Save the adapter again."
        )
    if noted["fingerprint"] != fingerprint:
        raise UserError(
            f"The adapter {folder} was trained on {brief(noted.get('base'))} with the fingerprint {noted['fingerprint']}, but "
            f"{name} here has {fingerprint}: other weights or another configuration. Put back the "
            f"base it was made for, or name it as base_model_name_or_path in the adapter's adapter_config.json."
        )


def read_config(folder: Path) -> dict[str, Any]:
    """Read an adapter's ``adapter_config.json``; :class:`UserError` if it cannot be read, names no base, or is of a kind that
    would be lost or that moves the base's weights.
    """
    from peft import PeftConfig

    try:
        given = read_json(folder / CONFIG)
        config: Any = PeftConfig.from_pretrained(str(folder))
        kind = str(getattr(config.peft_type, "value", config.peft_type))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / CONFIG} does not describe an adapter that the installed peft knows ({type(error).__name__}: {error}). "
            f"Save the adapter again with save_pretrained, or install the version of peft that it was made with."
        ) from error
    base = given.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UserError(
            f"{folder / CONFIG} does not say which base the adapter belongs to. Write the base's folder or hub id there, as "
            f"base_model_name_or_path."
        )
    waits = [switch for switch in CONDITIONAL if given.get(switch)]
    kind = " with ".join([kind, *waits])
    if config.is_prompt_learning or kind in BESIDE_THE_MODEL or waits:
        raise UserError(
            f"{folder} is an adapter of the kind {kind}, which acts outside the model's own layers (virtual tokens before the "
            f"sequence, a router, a phrase or a number that switches it on), so the states looked at here would be those of "
            f"the base. Adapters that change layers can be read: LoRA and its relatives, IA3, OFT and others; or write a "
            f"prompt-tuned prefix out as a context."
        )
    begun = str(getattr(config, "init_lora_weights", "")).lower()
    if begun.startswith(MOVES_THE_BASE):
        raise UserError(
            f"{folder} is a LoRA begun with {begun}, which moves the base's weights, so it fits no base that is on disk. Save it "
            f"as a plain LoRA (save_pretrained with path_initial_model_for_weight_conversion), or merged."
        )
    return given


def attach(folder: Path, base: str, model: Any, words: Mapping[str, int]) -> Any:
    """Put an adapter on the base, every tensor of it in its place.

    ``words``: tokens that the adapter's tokenizer has and its base's has not, with their ids. Raises :class:`UserError` for
    an adapter that does not fit, that is incomplete, or that would not act.
    """
    from peft import PeftModel

    file = folder / WEIGHTS
    if not file.is_file():
        raise UserError(f"{folder} has no {WEIGHTS}. Save the adapter with save_pretrained, which writes it.")
    try:
        saved = load_file(file)
        tensors = unwrapped(saved, folder)
        make_room(folder, model, tensors, words)
        refuse_endless(folder, read_json(folder / CONFIG), (name for name, _ in model.named_modules()))
        with _files(folder, tensors, renamed=set(tensors) != set(saved)) as files, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of what is refused below
            adapted = PeftModel.from_pretrained(model, files)
    except UserError:
        raise
    except Exception as error:  # safetensors has an exception of its own, peft raises several
        raise UserError(
            f"The adapter {folder} does not fit its base {base}: {' '.join(str(error).split())[:300]}. Give the base it was "
            f"made for."
        ) from error
    check_tensors(folder, base, adapted, tensors)
    check_acts(folder, adapted.eval())
    return adapted


def make_room(folder: Path, model: Any, tensors: Mapping[str, Tensor], words: Mapping[str, int]) -> None:
    """Give the base the rows of tokens that its adapter has added; :class:`UserError` for tokens that have no row anywhere.

    Rows are added only where the adapter's file brings all of them; they are zero until it is read.
    """
    ends = {"the embeddings": model.get_input_embeddings(), "the LM head": model.get_output_embeddings()}
    names = {id(module): name for name, module in model.named_modules()}
    rows = len(ends["the embeddings"].weight)
    brought = {
        what: len(tensor)
        for what, module in ends.items()
        for tensor in (_of_layer(tensors, names[id(module)]),)
        if tensor is not None
    }
    if ends["the embeddings"].weight is ends["the LM head"].weight and brought:  # one table
        brought = dict.fromkeys(ends, max(brought.values()))
    target = max(brought.values(), default=rows)
    added = [word for word, i in sorted(words.items(), key=lambda item: item[1]) if i >= target]
    if target != rows and set(brought.values()) == {target} and set(brought) == set(ends):
        model.resize_token_embeddings(target, mean_resizing=False)
        with torch.no_grad():
            for module in (model.get_input_embeddings(), model.get_output_embeddings()):
                module.weight[rows:] = 0
    elif target != rows:
        without = [what for what in ends if brought.get(what) != target]
        raise UserError(
            f"The adapter {folder} has {target} rows of tokens and its base {rows}, but its file brings none for "
            f"{' and '.join(without)}: the rows from {rows} on would be random. Save it with both (peft's "
            f"save_embedding_layers=True, or modules_to_save)."
        )
    if added:
        raise UserError(
            f"The tokenizer of the adapter {folder} has {len(added)} tokens for which neither it nor its base has a row "
            f"({first_few(added)}; there are {target} rows). Save the adapter with its embeddings (peft's "
            f"save_embedding_layers=True), or with the tokenizer it was trained with."
        )


def check_tensors(folder: Path, base: str, model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Refuse an adapter of which not every tensor is in the model as it is in the file, and nothing else.

    The library only warns. ``tensors``: what the file holds, by plain names.
    """
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        needed = get_peft_model_state_dict(model, save_embedding_layers=False)
        places = get_peft_model_state_dict(model, save_embedding_layers=True) | needed
    needed, places = ({plain(name): tensor for name, tensor in each.items()} for each in (needed, places))
    extra, lacking = sorted(set(tensors) - set(places)), sorted(set(needed) - set(tensors))
    if extra or lacking:
        found = [f"{len(extra)} of its tensors have no place there (such as {first_few(extra)})"] if extra else []
        found += [f"{len(lacking)} places get none (such as {first_few(lacking)})"] if lacking else []
        raise UserError(
            f"The adapter {folder} does not fit its base {base}: {' and '.join(found)}. Give the base it was made for."
        )
    changed = [name for name, tensor in tensors.items() if not _same(tensor, places[name])]
    if changed:
        raise UserError(
            f"The adapter {folder} is in the model with other numbers than in its file ({first_few(sorted(changed))}), "
            f"so the installed peft does not read it as it was written. Merge it into its base and give that folder."
        )


@torch.no_grad()
def check_acts(folder: Path, adapted: Any) -> None:
    """Refuse an adapter whose wrapper computes something else than the model inside it, which is what is looked at."""
    ids = (torch.arange(2, 10, device=device_of(adapted)) % embedded(adapted))[None]
    outer = adapted(input_ids=ids).logits.float()
    inner = adapted.get_base_model()(input_ids=ids).logits.float()
    if outer.shape != inner.shape or not torch.allclose(outer, inner, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise UserError(
            f"The adapter {folder} changes what its wrapper computes, but not the model inside it, so the states looked at here "
            f"would not be its. Merge it into its base (merge_and_unload, save_pretrained) and give that folder, if it can be."
        )


def _same(saved: Tensor, found: Tensor) -> bool:
    found = found.detach().to(saved.device)
    return saved.shape == found.shape and bool(torch.equal(saved.float(), found.to(saved.dtype).float()))


def _of_layer(tensors: Mapping[str, Tensor], module: str) -> Tensor | None:
    """Return a layer's own weight in an adapter's file."""
    for inside in ("", ".base_layer"):
        if (tensor := tensors.get(f"base_model.model.{module}{inside}.weight")) is not None:
            return tensor
    return None


@contextmanager
def _files(folder: Path, tensors: dict[str, Tensor], renamed: bool) -> Iterator[str]:
    """Give a folder to read an adapter from: its own, or a copy with its tensors by their plain names."""
    if not renamed:
        yield str(folder)
        return
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(folder / CONFIG, copy)
        save_file(tensors, Path(copy) / WEIGHTS, metadata={"format": "pt"})
        yield copy


def check_resumed(folder: Path, model: nn.Module) -> None:
    """Refuse an adapter's checkpoint of which not every tensor came back into the model that goes on from it."""
    tensors = unwrapped(load_file(folder / WEIGHTS), folder)
    check_tensors(folder, "in this run", model, tensors)
