"""What can be said of a model by its name alone, without its weights in memory: which bytes it is, how it writes.

Mental model: ``models.load`` gives a model that runs. Whether a study may be continued is asked before that, for every
checkpoint of it, so it is answered from files: :func:`model_digest`, and the tokenizer for the lengths of contexts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from cr_interp.errors import UserError
from cr_interp.models.loading import Loaded, resolve, tokenizer_in
from cr_interp.models.templates import fix_template
from cr_interp.system.digests import digest_of, folder_digest
from cr_interp.system.text_files import read_json


def model_digest(name: str) -> str:
    """Digest the bytes of a folder or a built-in; of a hub id take the commit that is in the cache here.

    An adapter's is of its base's files as well, which are half of what it does.
    """
    path = resolve(name)
    if not isinstance(path, Path):
        return digest_of([name, _commit(name)])
    base = _base_of(path)
    return folder_digest(path) if base is None else digest_of([folder_digest(path), model_digest(base)])


def _base_of(path: Path | str) -> str | None:
    """Return the name of the base that an adapter's folder gives; None for a whole model."""
    if not isinstance(path, Path) or not (path / "adapter_config.json").is_file():
        return None
    told = read_json(path / "adapter_config.json")
    base = told.get("base_model_name_or_path") if isinstance(told, dict) else None
    if not base:
        return None
    found = resolve(str(base))
    if isinstance(found, Path) and (found / "adapter_config.json").is_file():
        raise UserError(
            f"The base of the adapter {path} is an adapter itself ({base}). Merge that one into its own base first."
        )
    return str(base)


def _commit(name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "adapter_config.json"):
        found = try_to_load_from_cache(name, file)
        if isinstance(found, str):
            return Path(found).parent.name  # …/snapshots/COMMIT/config.json
    return None


def tokenizer_of(name: str, template: Mapping[str, bool | int | str] | None = None) -> Any:
    """Load a model's tokenizer alone, with variables of its chat template fixed; an adapter without one has its base's.

    Raises :class:`UserError` as :func:`~cr_interp.models.load` does.
    """
    path = resolve(name)
    base = _base_of(path)
    if base is not None and not (Path(path) / "tokenizer_config.json").is_file():
        return tokenizer_of(base, template)
    try:
        tokenizer = tokenizer_in(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(f"{name} has no tokenizer that can be loaded: {first}") from error
    fix_template(Loaded(name, cast(Any, None), tokenizer), dict(template or {}))
    return tokenizer
