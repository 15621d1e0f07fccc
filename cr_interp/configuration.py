"""Read a YAML file into a pydantic model, with ``key=value`` overrides, and say what is wrong in sentences.

Unknown keys are refused with the nearest valid one; overrides from the command line go through the same checks.
"""

import reprlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from cr_interp.confined import LARGEST_YAML
from cr_interp.errors import UserError
from cr_interp.system.text_files import DEEPEST, deeper, read_text
from cr_interp.system.visible import one_line

#: Of what is wrong in one file, so many things are said.
SENTENCES = 8
_REPR = reprlib.Repr()
_REPR.maxstring, _REPR.maxlong, _REPR.maxother, _REPR.maxlevel = 120, 60, 120, 3


class Strict(BaseModel):
    """Refuses unknown keys, and numbers that are none."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true where a number is wanted: YAML reads yes and on as true, which pydantic would take for 1."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {int, float} & {wanted, *get_args(wanted)}:
            raise ValueError("a number is wanted, but YAML reads this as true or false")
        return value


Model = TypeVar("Model", bound=BaseModel)


def yaml_value(text: str, problem: str) -> Any:
    """Parse YAML into plain values. ``problem`` begins the error, which is short whatever the text is.

    Raises :class:`UserError`, also for aliases, for what nests too deep, and for keys that are no texts.
    """
    from cr_interp.system.plain_yaml import Loader, YAMLError

    try:
        loader = Loader(text)  # a SafeLoader
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    except Exception as error:  # PyYAML's constructors raise whatever the value makes them stumble over
        said = one_line(" ".join(str(error).split()))[:300] if isinstance(error, YAMLError | ValueError) else ""
        said = said or f"a value is not of the kind that its tag says ({type(error).__name__})"
        raise UserError(
            f"{problem}: {'it nests too deep' if isinstance(error, RecursionError) else said}."
        ) from error
    if deeper(data, DEEPEST):
        raise UserError(f"{problem} that can be read: it nests too deep (more than {DEEPEST} levels).")
    return data


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file's keys and values. Raises :class:`UserError` for a missing file, bad YAML, or anything but a mapping."""
    data = yaml_value(read_text(path, "a YAML file", LARGEST_YAML), f"{path} is not valid YAML")
    if not isinstance(data, dict):
        raise UserError(f"{path} has to hold a mapping of keys to values; found {type(data).__name__}.")
    if not all(isinstance(key, str) for key in data):
        strange = next(key for key in data if not isinstance(key, str))
        raise UserError(f"{path}: a key is a text; found {brief(strange)}. Put it in quotes, or spell it right.")
    return data


def validated(kind: type[Model], data: dict[str, Any], where: Path) -> Model:
    """Validate ``data`` as a ``kind``. Raises :class:`UserError`, which begins with ``where``, for what does not fit."""
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
            raise UserError(
                f"'{one_line(override)[:160]}' is not an override; write key=value, for example training.lr=1e-4."
            )
        *sections, last = key.strip().split(".")
        if not sections and last not in kind.model_fields and last in brief:
            sections = [short]
        place = data
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"'{key}' goes into '{section}', which holds a plain value.")
        place[last] = yaml_value(text, f"The value of '{one_line(override)[:160]}' is not valid YAML")


def explain(error: ValidationError, kind: type[BaseModel] | None = None) -> str:
    """Explain pydantic's findings in sentences; unknown keys with the nearest valid key of ``kind``."""
    sentences = []
    for finding in error.errors():
        *sections, last = (one_line(part)[:80] for part in finding["loc"] or ("",))
        where = ".".join([*sections, last])
        if finding["type"] == "extra_forbidden" and kind is not None:
            valid = list(_section(kind, sections).model_fields)
            near = get_close_matches(last, valid, n=1, cutoff=0.4)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            sentences.append(f"Unknown key '{where}'.{hint} Valid here: {', '.join(valid)}.")
        else:
            sentences.append(f"'{where}': {finding['msg']} (found {brief(finding['input'])}).")
    more = len(sentences) - SENTENCES
    return " ".join(sentences[:SENTENCES]) + (f" And {more} more." if more > 0 else "")


def brief(value: Any) -> str:
    """Write a value as Python does, cut short: what is wrong may be anything, also a number that cannot be written."""
    try:
        said = one_line(_REPR.repr(value))
    except (ValueError, RecursionError, OverflowError):  # an integer of more digits than Python writes
        said = f"a very large {type(value).__name__}"
    return said if len(said) <= 160 else said[:157] + "…"


def _section(kind: type[BaseModel], names: Sequence[str]) -> type[BaseModel]:
    """Return the model of a nested section, which may also be left out (``Section | None``)."""
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
