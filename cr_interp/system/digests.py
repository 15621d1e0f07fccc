"""What made a result, as parts that can be compared: values as they are, everything longer as a digest.

Mental model. A result is made of *parts*: ``training.lr`` is 0.0003, ``rows of training`` are ``#5f2c…``. Whoever makes a
result notes its parts; whoever continues works them out again, and :func:`changes` says in words which differ. A digest
begins with ``#``, so that a changed one is told as changed and not shown. Nothing here loads a model or imports torch: a
model is known by the bytes of its files.
"""

import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from cr_interp.errors import UserError
from cr_interp.system.text_files import read_json

#: Part → what it is; JSON values, and digests for what is longer.
Parts = dict[str, Any]

#: Files of a model's folder that decide what it computes. Trainer's own and notes beside the weights do not.
_MODEL_FILES = (".json", ".safetensors", ".jinja", ".model", ".txt", ".gguf", ".tiktoken")
_BESIDE = {"trainer_state.json", "card.json", "checkpoint.json", "made_of.json", "base.json"}


def digest_of(value: Any) -> str:
    """Digest a JSON value: ``#`` and 16 hexadecimal digits; keys in any order, dataclasses as mappings."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain)
    return "#" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> Parts:
    """Flatten nested mappings to dotted names.

    >>> flat({"lr": 1, "lora": {"rank": 2}}, "training.")
    {'training.lr': 1, 'training.lora.rank': 2}
    """
    found: Parts = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what differs between two results' parts, a phrase each, settings first; nothing if they were made alike.

    >>> changes({"seed": 0, "training data": "#1", "lr": 1}, {"seed": 0, "training data": "#2", "lr": 3})
    ['lr (1, now 3)', 'training data (other content)']
    """
    differing = [
        name for name in dict.fromkeys([*old, *new]) if _canonical(old.get(name)) != _canonical(new.get(name))
    ]
    differing.sort(key=lambda name: _is_digest(old.get(name)) or _is_digest(new.get(name)))
    return [f"{name} {_difference(old.get(name), new.get(name))}" for name in differing]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("#")


def _difference(old: Any, new: Any) -> str:
    if _is_digest(old) or _is_digest(new):
        return "(other content)"
    return f"({_shown(old)}, now {_shown(new)})"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + "; ".join(map(str, value)) + "]"
    return str(value)


# -- code ----------------------------------------------------------------------------------------------------


def code_digest(file: Path, module: ModuleType | None) -> str:
    """Digest a Python file and of its author's own modules that it imports, since a grader often lives beside its task.

    ``module`` is the file as it was run. What is installed does not go in: packages have versions.
    """
    files = {file.resolve()} | _own_modules(module)
    return digest_of(sorted((each.name, file_digest(each)) for each in files))


def _own_modules(start: ModuleType | None) -> set[Path]:
    """Return files of the modules that a module reaches through its globals, those outside of any installation."""
    found: set[Path] = set()
    waiting, seen = [start], set[str]()
    while waiting:
        module = waiting.pop()
        if module is None or module.__name__ in seen:
            continue
        seen.add(module.__name__)
        file = getattr(module, "__file__", None)
        if file is None or not _is_own(Path(file)):
            continue
        found.add(Path(file).resolve())
        for value in list(vars(module).values()):
            named = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(named, str) and named in sys.modules:
                waiting.append(sys.modules[named])
    return found


def _is_own(file: Path) -> bool:
    installed = {*map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))}
    installed |= {str(Path(__file__).parent.parent), str(Path(__file__).parents[2] / "training")}
    return file.suffix == ".py" and not any(
        file.resolve().is_relative_to(Path(each).resolve()) for each in installed
    )


# -- files ---------------------------------------------------------------------------------------------------


def file_digest(file: Path) -> str:
    """Compute the SHA-256 of a file; one that has not changed since (by size, time and place) is read once in a process."""
    about = file.stat()
    return _file_digest(str(file.resolve()), about.st_size, about.st_mtime_ns, about.st_ino)


@cache
def _file_digest(file: str, size: int, changed: int, inode: int) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest what a model's folder computes with: configuration, weights, tokenizer, template; an adapter with its base."""
    try:
        files = [
            f for f in folder.iterdir() if f.suffix in _MODEL_FILES and f.name not in _BESIDE and f.is_file()
        ]
        found: list[Any] = sorted((file.name, file_digest(file)) for file in files)
        if (folder / "adapter_config.json").is_file():
            base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
            found.append(folder_digest(Path(base)) if isinstance(base, str) and Path(base).is_dir() else base)
    except (OSError, ValueError, AttributeError, RecursionError) as error:  # the last: a base that is the adapter
        raise UserError(
            f"The checkpoint {folder} could not be read ({error}). Give a readable folder."
        ) from error
    return digest_of(found)


def rows_digest(examples: Iterable[Any]) -> str:
    """Digest examples in their order: what is asked and how it is graded."""
    return digest_of([_row(each) for each in examples])


def _row(example: Any) -> Any:
    """Write an example as a mapping. What came to have a field later is left out where it is empty: older digests stay."""
    if not is_dataclass(example) or isinstance(example, type):
        return example
    later = ("context", "paraphrase", "history")
    return {name: value for name, value in asdict(example).items() if value or name not in later}
