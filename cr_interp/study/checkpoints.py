"""Which models there are to look at: a study's checkpoints, its base, the built-in ones, a folder somebody names.

Mental model: a :class:`Checkpoint` is a name to load by and words to show; nothing here reads weights or imports torch, so
an app can offer models without the seconds that importing torch takes. ``models/loading.py`` loads what is chosen.
"""

from dataclasses import dataclass
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.models.known import builtin_names, refuse_pickles
from cr_interp.study.places import CHECKPOINT
from cr_interp.study.study import Study


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be loaded. ``key`` is its name in a link, ``arm`` in a figure, ``words`` in a list."""

    key: str
    model: str
    arm: str
    words: str

    def files(self) -> list[Path]:
        """List the files that it is read from, if they are here: a copy in memory is valid while these do not change."""
        path = Path(self.model)
        return sorted([*path.glob("*.json"), *path.glob("*.safetensors")]) if path.is_dir() else []


def checkpoints(study: Study) -> list[Checkpoint]:
    """List what can be tried beside a study: its base model, its runs' checkpoints, models it was made of, the built-ins."""
    found = []
    base = study.manifest.get("model")
    if isinstance(base, str) and base:
        found.append(Checkpoint("base", base, "base", f"base: {base}"))
    for arm, seed, step, folder in study.checkpoints():
        key = f"{folder.parent.name}/{folder.name}"
        found.append(Checkpoint(key, str(folder), arm, f"{arm}, seed {seed}, step {step}"))
    arms = study.manifest.get("arms")
    for arm, given in arms.items() if isinstance(arms, dict) else ():
        # A study of somebody's own checkpoints names where they are; they may be on another machine.
        where = given.get("model") if isinstance(given, dict) else None
        if isinstance(where, str) and (where.startswith("builtin:") or Path(where).is_dir()):
            found.append(Checkpoint(f"arm/{arm}", where, str(arm), f"{arm}: {where}"))
    found += [Checkpoint(name, name, name.partition(":")[2], name) for name in builtin_names()]
    taken: dict[str, Checkpoint] = {}
    for each in found:
        taken.setdefault(each.model, each)
    return list(taken.values())


def folder(typed: str) -> Checkpoint:
    """Open the model folder at a path that somebody typed; :class:`UserError` for anything else, never the hub."""
    path = Path(typed.strip())
    try:
        path = path.expanduser()
        there = path.is_dir()
        inside = {each.name for each in path.iterdir()} if there else set()
    except (OSError, RuntimeError) as error:  # no permission, a name too long, no such user's home
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}). Give the folder of a checkpoint.") from error
    if not there:
        found = "a file" if path.is_file() else "nothing"
        raise UserError(f"There is no folder {path} (found: {found}). Give the folder of a checkpoint.")
    adapter = "adapter_config.json" in inside
    if not adapter and "config.json" not in inside:
        raise UserError(
            f"{path} has no config.json, so it is not a Hugging Face checkpoint. Give the folder that holds config.json "
            f"and the weights as safetensors."
        )
    refuse_pickles(path)
    weights = (
        "adapter_model.safetensors" in inside if adapter else any(n.endswith(".safetensors") for n in inside)
    )
    if not weights:
        what = "adapter_model.safetensors" if adapter else "safetensors"
        raise UserError(
            f"{path} has no weights as {what}. Save the model with save_pretrained, which writes them."
        )
    path = path.resolve()
    name = "/".join(path.parts[-2:]) if path.name.startswith(CHECKPOINT) else path.name
    return Checkpoint("folder", str(path), name, str(path))
