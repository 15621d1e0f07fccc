"""Refuse a model whose tokenizer, chat template or patterns would hang or end the process that uses them.

Mental model: they are programs that somebody else wrote, so they are first run elsewhere: ``probe.py`` tries them in a
process with a limit of time and memory. The same files are tried once in a process; what comes with this package never.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cr_interp.confined import LARGEST_JSON, content
from cr_interp.errors import UserError
from cr_interp.models.known import ORGANISMS

_PROBE = Path(__file__).with_name("probe.py")
#: Seconds of waiting, on a machine that is busy; of computing it gets fewer (``probe.py``).
PATIENCE = 120
_sound: set[str] = set()


def refuse_bombs(folder: Path) -> None:
    """Raise :class:`UserError` for a folder whose tokenizer or chat templates cannot be run within bounds."""
    if os.name != "posix" or folder.is_relative_to(ORGANISMS):
        return
    files = [*folder.glob("tokenizer*.json"), *folder.glob("*.jinja"), *folder.glob("*/*.jinja")]
    files = [file for file in sorted(files) if file.is_file()]
    digest = hashlib.blake2b()
    for file in files:
        told = content(file, "the file that was published with the model", LARGEST_JSON)
        digest.update(file.name.encode() + b"\0" + told + b"\0")
    if not files or digest.hexdigest() in _sound:
        return
    _try(folder, "tokenizer", "")
    _sound.add(digest.hexdigest())


def refuse_endless(folder: Path, config: dict[str, Any], names: Iterable[str]) -> None:
    """Refuse the same in the regular expressions of an adapter, on the names of its base's modules."""
    found: list[str] = []
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        told = config.get(key)
        listed = told if isinstance(told, list) and key == "layers_pattern" else [told]
        found += [each for each in listed if isinstance(each, str) and each != "all-linear"]
    for key in ("rank_pattern", "alpha_pattern"):
        told = config.get(key)
        found += [rf"(.*\.)?({each})$" for each in told] if isinstance(told, dict) else []
    if found and os.name == "posix":
        _try(folder, "patterns", json.dumps({"patterns": found, "names": list(names)}))


def _try(folder: Path, what: str, told: str) -> None:
    command = [sys.executable, "-I", str(_PROBE), what, str(folder)]
    own = {"PATH": os.environ.get("PATH", ""), "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        ended = subprocess.run(
            command, input=told, capture_output=True, text=True, timeout=PATIENCE, env=own, check=False
        )
        code, said = ended.returncode, ended.stdout.strip()[:400]
    except subprocess.TimeoutExpired:
        code, said = -1, ""
    if code == 0:
        return
    if code != 3:
        part = "regular expressions" if what == "patterns" else "tokenizer or chat template"
        said = f"its {part} did not end within bounds of time and memory, or broke the process that ran it (code {code})"
    raise UserError(f"{folder} is not loaded: {said}. Take the files from where the model was published.")
