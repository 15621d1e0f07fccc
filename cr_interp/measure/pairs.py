"""What ``compare`` is asked, read before any model is loaded: pairs ARM=MODEL, and the task. No torch."""

from collections.abc import Sequence
from pathlib import Path

from cr_interp.errors import UserError, unknown
from cr_interp.system.names import check_name
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Task
from cr_interp.tasks.yours.own import OwnTask, read_context, read_prompts

#: Our own decoding, and what else may answer besides a server's address.
OURS, ENGINES = "transformers", ("transformers", "vllm")


def is_address(engine: str) -> bool:
    """Whether an engine is a server. Raises :class:`UserError` for what is no engine.

    >>> is_address("http://localhost:8000/v1"), is_address("vllm")
    (True, False)
    """
    if engine.startswith(("http://", "https://")):
        return True
    if engine not in ENGINES:
        raise unknown("engine", engine, [*ENGINES, "http://… (a server)"])
    return False


def parse_pairs(checkpoints: Sequence[str]) -> dict[str, str]:
    """``["base=PATH", …]`` → arm → model.

    >>> parse_pairs(["base=builtin:organism-rules"])
    {'base': 'builtin:organism-rules'}
    """
    models: dict[str, str] = {}
    for pair in checkpoints:
        arm, equals, where = pair.partition("=")
        if not (arm and equals and where) or arm in models:
            raise UserError(
                f"'{pair}' is not ARM=MODEL with a new arm; write for example base=PATH opd=PATH nca=PATH."
            )
        models[check_name("an arm", arm)] = where
    if not models:
        raise UserError("Nothing to compare: give at least one ARM=MODEL.")
    return models


def choose_task(task: str | None, prompts: Path | None, context: Path | None, max_new_tokens: int) -> Task:
    if task is not None and prompts is None and context is None:
        return get_task(task, run_code=True)  # somebody has just typed it
    if task is None and prompts is not None and context is not None:
        return OwnTask(prompts.stem, read_prompts(prompts), read_context(context), max_new_tokens)
    raise UserError("Say what to ask: either --task NAME, or both --prompts FILE.jsonl and --context FILE.")
