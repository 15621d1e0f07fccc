"""Rows and texts that a task is made of, from a hub repository (through ``datasets``) or a file (``local_rows.py``).

Mental model: a :class:`Rows` names a dataset of the hub or a local JSONL, Parquet or CSV file; a :class:`Text` names a
context: written out, in a file, at a pinned address, in a column, or in a repository. Both are data; nothing that is
read is executed. Everything that can go wrong out there (gated, missing, no network, another column) is a
:class:`~cr_interp.errors.UserError` that says what to do. ``datasets`` is imported when it is needed and not before.
"""

import hashlib
import http.client
import os
import urllib.request
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cr_interp.confined import inside
from cr_interp.errors import UserError
from cr_interp.files import write_atomic
from cr_interp.system.hub import hub_problem
from cr_interp.system.text_files import decoded
from cr_interp.system.text_files import read_text as text_of
from cr_interp.system.visible import one_line
from cr_interp.tasks.yours.local_rows import READERS, read_local
from cr_interp.tasks.yours.own import read_context
from cr_interp.views import Context

#: How a context may be given; exactly one of them.
FORMS = ("text", "file", "url", "dataset", "repo", "each")


class Rows(BaseModel):
    """A split of a dataset: ``dataset`` is a hub id or a file (relative to the description that names it)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: str
    """A hub id, or a file (``.jsonl``, ``.json``, ``.csv``, ``.parquet``) beside the description."""
    subset: str | None = None
    """The hub's name of a configuration; null: its only one."""
    split: str = "train"
    """Of the dataset."""
    revision: str | None = None
    """A commit of the hub; null: the latest."""


class Text(BaseModel):
    """The place of a context's words. See :data:`FORMS`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    text: str | None = None
    """The words themselves."""
    file: str | None = None
    """``.json`` may hold messages or a splice, as for ``compare --context``."""
    url: str | None = Field(None, pattern="^https://")
    """An address that holds them; needs ``sha256``."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Of what is at ``url``: a text that changed under us is refused."""
    dataset: str | None = None
    """A hub id whose cell holds them; needs ``column``."""
    split: str = "train"
    """Of the dataset."""
    column: str | None = None
    """Of the dataset."""
    row: int = Field(0, ge=0, le=10**8)
    """Of the dataset, from 0."""
    repo: str | None = None
    """A dataset repository of the hub, with ``path`` inside it."""
    path: str | None = None
    """In ``repo``."""
    revision: str | None = None
    """A commit of the hub; null: the latest."""
    each: str | None = None
    """A template for a context of each row, filled with its fields: ``Hint: {hint}``."""

    @model_validator(mode="after")
    def _one_form(self) -> "Text":
        given = [form for form in FORMS if getattr(self, form) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(FORMS)}; found {', '.join(given) or 'none'}")
        for form, needed in (("url", "sha256"), ("dataset", "column"), ("repo", "path")):
            if getattr(self, form) is not None and getattr(self, needed) is None:
                raise ValueError(f"'{form}' needs '{needed}' beside it")
        return self


def is_local(name: str) -> bool:
    """Tell whether a name is a file's rather than a hub id. The suffix decides, so that a missing file is not looked for on
    the hub.
    """
    return Path(name).suffix.lower() in READERS


def placed(rows: Rows, folder: Path) -> Rows:
    """Return the same rows with a local file's path made independent of the working directory.

    Raises :class:`UserError` for a file that is not in the description's folder: see :mod:`cr_interp.confined`.
    """
    if not is_local(rows.dataset):
        return rows
    return rows.model_copy(
        update={"dataset": str(inside(folder, rows.dataset, "The task's description").resolve())}
    )


@cache
def read_rows(rows: Rows) -> Any:
    """Read the split as columns by name: ``column_names`` and ``rows[name]``. Read once in a process."""
    if is_local(rows.dataset):
        return read_local(Path(rows.dataset), rows.split)
    datasets = _datasets()
    try:
        return datasets.load_dataset(rows.dataset, rows.subset, split=rows.split, revision=rows.revision)
    except (
        Exception
    ) as error:  # datasets, the hub's client and its HTTP library each have exceptions of their own
        raise _explained(error, rows) from error


def column(rows: Any, name: str, where: str) -> list[Any]:
    """Return a column's values; a dotted name reaches into structs (``reward_model.ground_truth``).

    Raises :class:`UserError` with the columns found and the nearest one.
    """
    first, *inner = name.split(".")
    if first not in rows.column_names:
        raise _no_column(first, rows.column_names, where)
    values = list(rows[first])
    for part in inner:
        held = next((value for value in values if value is not None), None)
        if values and (not isinstance(held, dict) or part not in held):
            found = list(held) if isinstance(held, dict) else []
            raise _no_column(name, [f"{first}.{each}" for each in found] or rows.column_names, where)
        values = [value.get(part) if isinstance(value, dict) else None for value in values]
    return values


def read_text(source: Text, folder: Path) -> Context | str:
    """Read the words of a context, without space around them; a Context where a JSON file says more than words."""
    if source.text is not None:
        return source.text.strip()
    if source.each is not None:
        raise UserError(
            f"'each' ({one_line(source.each)[:80]!r}) is filled from each row, and this context is one for all. Write it out as "
            f"'text', or name a 'file'."
        )
    if source.file is not None:
        path = inside(folder, source.file, "The task's description")
        context = read_context(path)
        return context if path.suffix.lower() == ".json" else context.messages[0]["content"]
    if source.url is not None:
        return _downloaded(source.url, str(source.sha256)).strip()
    if source.dataset is not None:
        rows = placed(Rows(dataset=source.dataset, split=source.split, revision=source.revision), folder)
        values = column(read_rows(rows), str(source.column), rows.dataset)
        if source.row >= len(values):
            raise UserError(
                f"The context is row {source.row} of {rows.dataset}, which has {len(values)} rows. Count from 0."
            )
        return str(values[source.row]).strip()
    return _hub_file(str(source.repo), str(source.path), source.revision).strip()


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "This task reads its rows through the package datasets, which is not installed. Install the extra 'hub': "
            "`pip install 'cr-interp[hub]'`."
        ) from error
    return datasets


def _no_column(name: str, found: list[str], where: str) -> UserError:
    near = get_close_matches(name, found, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(
        f"{where} has no column '{name}'.{hint} Found: {', '.join(found)}. Name the right one under 'columns' of the "
        f"task's description."
    )


def _explained(error: Exception, rows: Rows) -> UserError:
    """Explain what the libraries raise for a gated or missing repository, no network, another split, a damaged file."""
    instead = "give a local JSONL or Parquet file instead"
    if problem := hub_problem(error, "dataset", rows.dataset, instead, rows.revision):
        return UserError(problem)
    said = str(error).strip().split("\n")[0]
    where = rows.dataset + (f" ({rows.subset})" if rows.subset else "")
    if "split" in said.casefold():
        return UserError(f"{where} has no split '{rows.split}'. {said}")
    cause = str(error.__cause__ or "").strip().split("\n")[0]
    return UserError(f"{where} could not be read as a dataset: {said} {cause}".strip())


def _downloaded(url: str, sha256: str) -> str:
    """Fetch a short text at a pinned address, kept in the user's cache under its digest."""
    cached = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cr_interp" / "texts" / sha256
    if cached.is_file():
        content = cached.read_bytes()
    else:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                content = answer.read(1_000_000)
        except (OSError, ValueError, http.client.HTTPException) as error:  # the last two: what is no address
            raise UserError(
                f"The context at {url} is out of reach ({error}). Connect to the network, or save it as a file and name "
                f"that in the task's description (`context: {{file: …}}`)."
            ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"The text at {url} is not the one that was pinned (sha256 {found}, expected {sha256}). Look at what "
            f"changed, then pin the new one, or name a file of your own."
        )
    if not cached.is_file():
        write_atomic(cached, lambda file: file.write(content))
    return decoded(content, url)


def _hub_file(repo: str, path: str, revision: str | None) -> str:
    from huggingface_hub import hf_hub_download

    try:
        file = hf_hub_download(repo, path, repo_type="dataset", revision=revision)
    except Exception as error:
        raise _explained(error, Rows(dataset=repo, revision=revision)) from error
    return text_of(Path(file))
