"""Read a YAML file into a pydantic model, with ``key=value`` overrides, and say what is wrong in sentences.

Unknown keys are refused with the nearest valid one; overrides from the command line go through the same checks.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cr_interp.errors import UserError
from cr_interp.text_files import read_text


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


Model = TypeVar("Model", bound=BaseModel)


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file's keys and values. Raises :class:`UserError` for a missing file, bad YAML, or anything but a mapping."""
    text = read_text(path, "a YAML file")
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2020-99-99 is a ValueError
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} has to hold a mapping of keys to values; found {type(data).__name__}.")
    return data


def validated(kind: type[Model], data: dict[str, Any], where: Path) -> Model:
    """``data`` as a ``kind``; what does not fit is a :class:`UserError` that begins with ``where``."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, kind)}") from error


def apply_overrides(
    kind: type[BaseModel], data: dict[str, Any], overrides: Sequence[str], short: str = ""
) -> None:
    """Set each ``dotted.key=value`` in nested dictionaries; values are read as YAML.

    A key of the section ``short`` may be given without the section's name.
    """
    brief = set(_section(kind, [short]).model_fields) if short else set()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"'{override}' is not an override; write key=value, for example training.lr=1e-4.")
        *sections, last = key.strip().split(".")
        if not sections and last not in kind.model_fields and last in brief:
            sections = [short]
        place = data
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"'{key}' goes into '{section}', which holds a plain value.")
        try:
            place[last] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"The value of '{override}' is not valid YAML: {error}") from error


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """pydantic's findings as sentences, unknown keys with the nearest valid key."""
    sentences = []
    for finding in error.errors():
        *sections, last = map(str, finding["loc"]) if finding["loc"] else ("",)
        where = ".".join([*sections, last])
        if finding["type"] == "extra_forbidden":
            valid = list(_section(kind, sections).model_fields)
            near = get_close_matches(last, valid, n=1, cutoff=0.4)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            sentences.append(f"Unknown key '{where}'.{hint} Valid here: {', '.join(valid)}.")
        else:
            sentences.append(f"'{where}': {finding['msg']} (found {finding['input']!r}).")
    return " ".join(sentences)


def _section(kind: type[BaseModel], names: Sequence[str]) -> type[BaseModel]:
    """The model of a nested section, which may also be left out (``Section | None``)."""
    for name in names:
        annotation = kind.model_fields[name].annotation if name in kind.model_fields else None
        models = [
            each
            for each in (annotation, *get_args(annotation))
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        if not models:
            break
        kind = models[0]
    return kind
