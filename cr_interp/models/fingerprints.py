"""Which model is this, and which tokenizer? Hashes of all that decides how they behave, and of nothing else.

Mental model. Saved states, resumption and "the same tokenizer" go by these. So two that behave differently never share one,
and what does not change behaviour (the folder, the division into files, the type that numbers were stored in, the library's
version) does not go in. An adapter is what its layers do: their factors and switches as they stand, whatever words of
``adapter_config.json`` (alpha, rsLoRA, patterns) they came from.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

#: Of a configuration, at any depth: where, by whom and for which output it was saved.
NOT_THE_FORWARD = frozenset(
    {
        "_name_or_path", "name_or_path", "transformers_version", "_attn_implementation", "attn_implementation",
        "torch_dtype", "dtype", "architectures", "use_cache", "output_attentions", "output_hidden_states",
        "return_dict", "id2label", "label2id", "problem_type", "auto_map", "initializer_range", "pad_token_id",
        "bos_token_id", "eos_token_id", "quantization_config",
    }
)  # fmt: skip
#: Of an adapter's layer: what its factors were computed from (they themselves go in), and the library's own books.
NOT_IN_A_LAYER = frozenset(
    {
        "r",
        "lora_alpha",
        "kwargs",
        "lora_dropout",
        "use_rslora",
        "training",
        "adapter_layer_names",
        "other_param_names",
        "ephemeral_gpu_offload",
        "cast_input_dtype_enabled",
    }
)


def fingerprint(model: Any, tokenizer: Any | None, dtype: torch.dtype | None = None) -> str:
    """Hash configuration, tensors, adapters and tokenizer: two hashes are equal exactly if the models behave equally.

    Names, shapes, dtypes and bytes of all parameters and saved buffers go in, in sorted order. With a ``dtype`` they are
    taken in that: the same for a model however it was loaded. With a tokenizer the ids that end a turn go in, too; without
    one it is the network's alone.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, forward_config(model.config.to_dict()))
    _add(digest, adapter_state(model))
    if tokenizer is not None:
        _add(digest, {"tokenizer": tokenizer_fingerprint(tokenizer), "ends": _ends(model, tokenizer)})
    for name, tensor in sorted(_tensors(model), key=lambda item: item[0]):
        taken = tensor.detach()
        if taken.is_floating_point():
            taken = taken.to(dtype or taken.dtype)
        digest.update(f"{name} {tuple(taken.shape)} {taken.dtype}".encode())
        digest.update(taken.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash everything between text and ids, both ways, and the chat template with its variables.

    Two models can share ids exactly if these agree.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, _pipeline(tokenizer))
    _add(digest, {str(i): _token(each) for i, each in getattr(tokenizer, "added_tokens_decoder", {}).items()})
    template = tokenizer.chat_template or ""
    # Special tokens are variables of the template. One that it does not write (a pad that training set) changes nothing.
    written = {
        name: _words(value)
        for name, value in tokenizer.special_tokens_map.items()
        if name == "eos_token" or name in str(template)
    }
    _add(digest, written)
    switches = ("clean_up_tokenization_spaces", "split_special_tokens")
    _add(digest, {name: bool(getattr(tokenizer, name, False)) for name in switches})
    _add(digest, template)
    return digest.hexdigest()


def forward_config(config: Any) -> Any:
    """Return the part of a configuration (``to_dict()``) that can change a forward pass, at every depth.

    >>> forward_config({"dtype": "float32", "text_config": {"rope_theta": 1e4, "_name_or_path": "here"}})
    {'text_config': {'rope_theta': 10000.0}}
    """
    if isinstance(config, dict):
        older = {"type"} if "rope_type" in config else set()  # the same word by its earlier name
        return {k: forward_config(v) for k, v in config.items() if k not in NOT_THE_FORWARD | older}
    return [forward_config(each) for each in config] if isinstance(config, list | tuple) else config


def adapter_state(model: nn.Module) -> dict[str, Any]:
    """Map layer → what an adapter there does besides its tensors: kind, factors, switches. Empty without an adapter."""
    configs = getattr(model, "peft_config", None)
    if not configs:
        return {}
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    layers = {
        name: {"kind": type(module).__name__, **_simple(module)}
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
    }
    if all(isinstance(module, LoraLayer | AuxiliaryTrainingWrapper) for module in _tuned(model)):
        return layers
    # What other kinds of layers compute from is not known here, so all that was chosen goes in, except where it was.
    where = {"base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping", "task_type"}
    chosen = {
        name: {k: v for k, v in config.to_dict().items() if k not in where} for name, config in configs.items()
    }
    return {**layers, "": chosen}


def _tuned(model: nn.Module) -> Iterator[nn.Module]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return (module for module in model.modules() if isinstance(module, BaseTunerLayer))


def _simple(module: Any) -> dict[str, Any]:
    """Return a layer's own settings that are numbers, words and switches, or lists and dictionaries of these; of its variants
    (DoRA and the like) the kind.
    """
    private = ("_disable_adapters", "_active_adapter")
    found = {
        name: value
        for name, value in vars(module).items()
        if (name in private or not name.startswith("_")) and name not in NOT_IN_A_LAYER and _plain(value)
    }
    variants = getattr(module, "lora_variant", {})
    return {**found, "variants": {str(name): _kind(each) for name, each in dict(variants).items()}}


def _kind(each: Any) -> str:
    return each.__name__ if isinstance(each, type) else type(each).__name__


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    if isinstance(value, list | tuple | set):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a turn, by the generation configuration and by the tokenizer."""
    given = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [] if given is None else [given] if isinstance(given, int) else list(given)
    own = tokenizer.eos_token_id
    return sorted({*ids, *([own] if own is not None else [])})


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and those buffers that a checkpoint holds; the others follow from the configuration."""
    yield from model.named_parameters()
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}" if prefix else name, buffer


def _pipeline(tokenizer: Any) -> Any:
    """Return normaliser, pre-tokenizer, vocabulary, merges, post-processor, decoder and added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        whole = json.loads(backend.to_str())
        # Left there by the last call, and set anew by the next.
        return {k: v for k, v in whole.items() if k not in ("truncation", "padding", "version")}
    with tempfile.TemporaryDirectory() as folder:  # written in Python, or another library's: what it would save
        saved = tokenizer.save_vocabulary(folder)
        files = {Path(file).name: hashlib.blake2b(Path(file).read_bytes()).hexdigest() for file in saved or ()}
    return [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), files, _init_words(tokenizer)]


def _init_words(tokenizer: Any) -> dict[str, Any]:
    """Return the switches that a tokenizer written in Python was made with, without its files."""
    given = getattr(tokenizer, "init_kwargs", {})
    ignored = {
        "name_or_path",
        "model_max_length",
        "chat_template",
        "tokenizer_class",
        "is_local",
        "local_files_only",
    }
    return {k: v for k, v in given.items() if k not in ignored and not k.endswith("_file") and _plain(v)}


def _words(value: Any) -> Any:
    return [str(each) for each in value] if isinstance(value, list | tuple) else str(value)


def _token(token: Any) -> list[Any]:
    """Return an added token with how it is looked for in a text."""
    names = ("lstrip", "rstrip", "normalized", "single_word", "special")
    return [str(token), *(bool(getattr(token, name, False)) for name in names)]


def _add(digest: Any, value: Any) -> None:
    def other(each: Any) -> Any:
        return sorted(each, key=str) if isinstance(each, set | frozenset) else str(each)

    digest.update(json.dumps(value, sort_keys=True, default=other).encode())
    digest.update(b"\0")
