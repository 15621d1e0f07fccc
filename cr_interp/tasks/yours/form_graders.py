"""Judge a response by its form: a pattern it matches, JSON of a schema, the language it is in. No expected answer is needed.

Mental model. What cannot be read is ``truncated`` if the response was cut off and ``unparsable`` if it was not, as everywhere
(``graders.py``). Patterns come from people and responses from models, and some pairs of them take longer than anybody waits: a
pattern is given up after :data:`SECONDS` and that is an error, not a verdict. A schema is checked when it is first used, and
refers to nothing outside of itself.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import regex as patterns

from cr_interp.confined import inside
from cr_interp.errors import UserError
from cr_interp.system.text_files import parsed, read_json
from cr_interp.system.time_limit import limited
from cr_interp.tasks.base import Outcome
from cr_interp.tasks.graders import compared
from cr_interp.tasks.words import bare

SECONDS = 2.0
#: A longer response is not JSON that anybody asked for.
LONGEST_JSON = 1_000_000
#: Characters; of less text no language can be told.
SHORTEST_TEXT = 12


@cache
def compiled(pattern: str, answer: str) -> Any:
    """Compile a pattern with ``{answer}`` filled in. Raises :class:`UserError` for one that is no pattern."""
    try:
        return patterns.compile(pattern.replace("{answer}", patterns.escape(answer)), patterns.DOTALL)
    except (patterns.error, OverflowError, RecursionError) as error:
        raise UserError(f"The grader's pattern {pattern[:80]!r} is no regular expression ({error}).") from error


def regex(pattern: str, answer: str, response: str, truncated: bool) -> Outcome:
    """Return ``right`` if the pattern is found; with a group ``answer``, if the last one found is the expected answer.

    >>> regex(r"(?P<answer>\\d+) apples", "3", "2 apples, no, 3 apples", False)
    'right'
    """
    found = None
    try:
        for found in compiled(pattern, answer).finditer(response, timeout=SECONDS):
            if "answer" not in found.groupdict():
                break
    except TimeoutError as error:
        raise UserError(
            f"The grader's pattern {pattern[:80]!r} takes longer than {SECONDS:g} seconds on a response of {len(response)} "
            f"characters: it backtracks. Write it without nested repetitions."
        ) from error
    if found is None:
        return (
            compared(None, answer, truncated)
            if not response.strip() or "(?P<answer>" in pattern
            else _not_there(truncated)
        )
    if "answer" not in found.groupdict():
        return "right"
    return compared(bare(found["answer"] or "") or None, bare(answer), truncated)


def _not_there(truncated: bool) -> Outcome:
    return "truncated" if truncated else "wrong"


def json_text(schema: dict[str, Any] | None, answer: str, response: str, truncated: bool) -> Outcome:
    """Return ``right`` if the response is JSON, alone or in a fence, that fits the schema; and equals the answer, if there is
    one.
    """
    try:
        value = parsed(_fenced(response), "the response is not JSON") if len(response) <= LONGEST_JSON else None
    except UserError:
        return "truncated" if truncated else "unparsable"
    if len(response) > LONGEST_JSON:
        return "unparsable"
    if schema is not None and not _fits(value, schema):
        return "wrong"
    if not answer:
        return "right"
    try:
        expected = parsed(answer, "the answer is not JSON")
    except UserError:
        expected = answer
    return "right" if value == expected and type(value) is type(expected) else "wrong"


def _fenced(response: str) -> str:
    """Give what stands in the last fence of three backticks, else all of it."""
    parts = response.split("```")
    if len(parts) < 3:
        return response.strip()
    return parts[-2].removeprefix("json").strip()


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    told = "The JSON schema takes longer than 10 seconds on a response. Write it without patterns that repeat repetitions."
    try:
        with limited(10, told):
            return bool(_validator(json.dumps(schema, sort_keys=True)).is_valid(value))
    except UserError:
        raise
    except Exception as error:  # a reference to nothing, to itself, and whatever a keyword stumbles over
        said = "it refers to itself without end" if isinstance(error, RecursionError) else str(error)[:200]
        raise UserError(f"The grader's JSON schema cannot be applied: {said}.") from error


def check_schema(schema: dict[str, Any]) -> None:
    """Raise :class:`UserError` for a schema by which nothing can be judged, before any response is."""
    tried: tuple[Any, ...] = (None, 0, "", [], {})
    for value in tried:
        _fits(value, schema)


def check_language(code: str) -> None:
    """Raise :class:`UserError` for a language that is not known."""
    if code not in _known_languages():
        raise UserError(
            f"The grader's language {code!r} is not known to py3langid. It knows {', '.join(_known_languages())}."
        )


@cache
def _validator(text: str) -> Any:
    """Make a validator of a schema, by the draft that it names. Raises :class:`UserError` for a schema that is none."""
    try:
        import jsonschema
        from referencing import Registry
    except ImportError as error:
        raise UserError(
            "The grader 'json' with a schema needs the package jsonschema. Install the extra 'graders': "
            "pip install 'cr-interp[graders]'."
        ) from error
    schema = json.loads(text)
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        with limited(10, "The JSON schema takes longer than 10 seconds to check."):
            kind.check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise UserError(f"The grader's JSON schema is none: {str(error.message)[:200]}.") from error
    if "patternProperties" in text:
        raise UserError(
            "The grader's JSON schema has 'patternProperties', which is not read here. Name the properties."
        )
    if outside := [ref for ref in _references(schema) if not ref.startswith("#")]:
        raise UserError(
            f"The grader's JSON schema refers to {outside[0][:80]!r}, which is outside of it. Write that into '$defs'."
        )
    # Python's own patterns cannot be stopped.
    safe = jsonschema.validators.extend(kind, {"pattern": _pattern(jsonschema.exceptions.ValidationError)})
    return safe(schema, registry=Registry())


def _pattern(refused: Any) -> Any:
    def check(validator: Any, pattern: str, value: Any, schema: Any) -> Any:
        if isinstance(value, str):
            try:
                found = compiled(pattern.replace("{answer}", "\\{answer}"), "").search(value, timeout=SECONDS)
            except TimeoutError as error:
                raise UserError(
                    f"The schema's pattern {pattern[:80]!r} takes longer than {SECONDS:g} seconds."
                ) from error
            if found is None:
                yield refused(f"does not match {pattern!r}")

    return check


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema[key] for key in ("$ref", "$dynamicRef") if isinstance(schema.get(key), str)]
        return own + [ref for value in schema.values() for ref in _references(value)]
    return [ref for value in schema for ref in _references(value)] if isinstance(schema, list) else []


def read_schema(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON schema from a file of the description's folder."""
    schema = read_json(inside(folder, name, "The grader"), "a JSON schema")
    if not isinstance(schema, dict):
        raise UserError(f"{folder / name} holds a {type(schema).__name__}, and a JSON schema is an object.")
    return schema


def language(code: str, response: str, truncated: bool) -> Outcome:
    """Return ``right`` if the response is in this language, by py3langid; of less than a dozen letters nothing is said."""
    if sum(letter.isalpha() for letter in response) < SHORTEST_TEXT:
        return "truncated" if truncated else "unparsable"
    check_language(code)
    import py3langid

    return "right" if py3langid.classify(response)[0] == code else "wrong"


@cache
def _known_languages() -> tuple[str, ...]:
    try:
        import py3langid
    except ImportError as error:
        raise UserError(
            "The grader 'language' needs the package py3langid. Install the extra 'graders': pip install 'cr-interp[graders]'."
        ) from error

    return tuple(sorted(name for name, _ in py3langid.rank("a text")))
