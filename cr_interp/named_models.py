"""What can be said of a model by its name alone, without its weights in memory: which bytes it is, how it writes.

Mental model: ``models.load`` gives a model that runs. Whether a study may be continued is asked before that, for every
checkpoint of it, so it is answered from files: :func:`model_digest`, and the tokenizer for the lengths of contexts.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer

from cr_interp.digests import digest_of, folder_digest
from cr_interp.errors import UserError
from cr_interp.models import Loaded, resolve
from cr_interp.templates import fix_template


def model_digest(name: str) -> str:
    """Of a folder or a built-in the bytes of its files; of a hub id the commit that is in the cache here."""
    path = resolve(name)
    return folder_digest(path) if isinstance(path, Path) else digest_of([name, _commit(name)])


def _commit(name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "adapter_config.json"):
        found = try_to_load_from_cache(name, file)
        if isinstance(found, str):
            return Path(found).parent.name  # …/snapshots/COMMIT/config.json
    return None


def tokenizer_of(name: str, template: Mapping[str, bool | int | str] | None = None) -> Any:
    """A model's tokenizer alone, with variables of its chat template fixed; an adapter without one has its base's.

    Raises :class:`UserError` as :func:`~cr_interp.models.load` does.
    """
    path = resolve(name)
    adapter = isinstance(path, Path) and (path / "adapter_config.json").is_file()
    if adapter and not (Path(path) / "tokenizer_config.json").is_file():
        told = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
        return tokenizer_of(told["base_model_name_or_path"], template)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(f"{name} has no tokenizer that can be loaded: {first}") from error
    fix_template(Loaded(name, cast(Any, None), tokenizer), dict(template or {}))
    return tokenizer
