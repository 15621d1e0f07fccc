"""What would stop a run before its first step, as far as files of this machine tell: rows and context, loggers and engines, an
adapter's places.

Mental model. A plan loads no model. But a task's rows are often here, a weight's name stands in the head of its
file, and a package is installed or not: what they refuse, the run would refuse later. What takes longer than a moment to find
out, or is only known on the hub, is left to the run.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from cr_interp.confined import is_regular
from cr_interp.errors import UserError
from cr_interp.measure.drawn import drawn
from cr_interp.models.known import ORGANISMS
from cr_interp.tasks.base import Example, Task
from cr_interp.tasks.language.labels import LabelTask
from cr_interp.tasks.yours.described import DescribedTask
from cr_interp.views import Context
from training.run.cores import too_many_threads
from training.settings import LOGGERS, StudyConfig

#: Of a safetensors file: its head, which lists the tensors, is no longer than this in any model.
LONGEST_HEAD = 64 << 20
#: A module inside a layer, as families call their lists of layers.
_LAYER = re.compile(r"(^|\.)(layers|h|blocks)\.\d+\.")


def row_problems(config: StudyConfig, task: Task) -> list[str]:
    """Say of which examples a task of fixed rows has too few, or none. Nothing is said about rows on the hub, nor about tasks
    that make their examples: they have as many as one asks for, and finding them takes a while.
    """
    if not isinstance(task, LabelTask) and not (isinstance(task, DescribedTask) and task.is_local):
        return []
    training, evaluation = config.training, config.evaluation
    asked: list[Callable[[], Sequence[Example]]] = [
        lambda: task.examples("train", 1, 0),
        lambda: task.examples("validation", training.eval_examples, 0),
        lambda: drawn(task, evaluation),
    ]
    found: list[str] = []
    for ask in asked:
        try:
            ask()
        except UserError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def logger_problems(config: StudyConfig) -> Iterator[str]:
    for name in config.report_to:
        packages = LOGGERS[name]
        if packages and not any(find_spec(package) for package in packages):
            yield f"report_to names {name}, whose package {packages[0]} is not installed. Install it, or leave it out."


def engine_problems(config: StudyConfig) -> Iterator[str]:
    """Yield engines for responses that are not installed here, and more threads than can be begun."""
    if wrong := too_many_threads(config.threads):
        yield wrong
    if config.training.vllm and not find_spec("vllm"):
        yield "training.vllm needs the package vllm, which is not installed: pip install 'cr-interp[vllm]', or leave it out."
    if config.evaluation.engine == "vllm" and not find_spec("vllm"):
        yield "evaluation.engine needs the package vllm, which is not installed: pip install 'cr-interp[vllm]', or leave it out."


def context_problems(config: StudyConfig, task: Task) -> Iterator[str]:
    """Yield a context that is longer than ``context_cap``, where a built-in tokenizer counts its words in a moment.

    Only what the context says is counted, so what the chat template writes around it comes on top.
    """
    file = ORGANISMS / config.model.removeprefix("builtin:organism-") / "tokenizer.json"
    if config.context_cap is None or not config.model.startswith("builtin:") or not file.is_file():
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))

    def length(context: Context) -> int:
        return sum(len(tokenizer.encode(message["content"]).ids) for message in context.messages)

    context = task.contexts(length)["exact"]
    if isinstance(context, Context) and (found := length(context)) > config.context_cap:
        yield (
            f"The context of '{config.task}' has {found} tokens, more than context_cap = {config.context_cap}. Nothing is cut: "
            f"shorten the context, or raise context_cap."
        )


def adapter_problems(config: StudyConfig) -> Iterator[str]:
    """Yield places of an adapter that the model has not, or that student and teacher share."""
    lora = config.training.lora
    if lora is None or isinstance(lora.target_modules, str):
        return
    maps = weights(config.model)
    if not lora.target_modules:
        yield "training.lora.target_modules is empty, so nothing would be trained. Name linear maps, or 'all-linear'."
    elif maps:
        meant = [name for name in maps for target in lora.target_modules if _ends(name, target)]
        inner = {name.rpartition(".")[2] for name, sizes in maps.items() if sizes == 2 and _LAYER.search(name)}
        if not meant or any(name.rpartition(".")[2] not in inner for name in meant):
            yield (
                f"training.lora.target_modules = {lora.target_modules} does not fit {config.model}, whose linear maps inside the "
                f"layers are called {', '.join(sorted(inner))}. Name some of these, or 'all-linear'."
            )


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def weights(model: str) -> dict[str, int]:
    """List a model's modules with weights, and whether these are vectors (1) or matrices (2), from the heads of its
    files; nothing if it is not in a folder here."""
    folder = ORGANISMS / model.removeprefix("builtin:organism-") if model.startswith("builtin:") else Path(model)
    found = {}
    for file in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        for name, told in _head(file).items():
            shape = told.get("shape") if isinstance(told, dict) else None
            if name.endswith(".weight") and isinstance(shape, list):
                found[name.removesuffix(".weight")] = len(shape)
    return found


def _head(file: Path) -> dict[str, object]:
    """Return the list of tensors in front of a safetensors file; nothing if it has none that can be read."""
    if not is_regular(file):
        return {}
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            told = json.loads(opened.read(length)) if length <= LONGEST_HEAD else {}
    except (OSError, ValueError, RecursionError):  # whoever loads it says what is wrong with it
        return {}
    return told if isinstance(told, dict) else {}
