"""Graders in data: each kind's verdicts, what they refuse, and that only who is named may run or ask."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Example
from cr_interp.tasks.yours.grading import Grading

WITHOUT = Example("1", "q", "")
SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "integer"}},
    "additionalProperties": False,
}


def verdict(told: dict, response: str, tmp_path, answer: str = "", truncated: bool = False, trusted: bool = True):
    return Grading.model_validate(told).grade(Example("1", "q", answer), response, truncated, tmp_path, trusted)


@pytest.mark.parametrize(
    ("told", "answer", "response", "outcome"),
    [
        ({"kind": "regex", "pattern": r"^\w+$"}, "", "yes", "right"),
        ({"kind": "regex", "pattern": r"^\w+$"}, "", "yes sir", "wrong"),
        ({"kind": "regex", "pattern": "x"}, "", " ", "unparsable"),
        ({"kind": "regex", "pattern": "is {answer}"}, "a.b", "it is a.b", "right"),
        ({"kind": "regex", "pattern": "is {answer}"}, "a.b", "it is axb", "wrong"),
        ({"kind": "regex", "pattern": r"A: (?P<answer>\S+)"}, "no", "A: yes A: No.", "right"),
        ({"kind": "regex", "pattern": r"A: (?P<answer>\S+)"}, "no", "none", "unparsable"),
        ({"kind": "json"}, "", "[1, 2]", "right"),
        ({"kind": "json"}, "", "so: [1", "unparsable"),
        ({"kind": "json"}, "[1, 2]", "```json\n[1,2]\n```", "right"),
        ({"kind": "json"}, "[1, 2]", "[2, 1]", "wrong"),
        ({"kind": "json", "json_schema": SCHEMA}, "", '{"n": 3}', "right"),
        ({"kind": "json", "json_schema": SCHEMA}, "", '{"n": "3"}', "wrong"),
        ({"kind": "json", "json_schema": {"type": "string", "pattern": "^a+$"}}, "", '"aab"', "wrong"),
        ({"kind": "json"}, "", "[" * 100_000, "unparsable"),
        ({"kind": "json"}, "[" * 100_000, "[]", "wrong"),
        ({"kind": "contains"}, "4", "it is 4", "right"),
        ({"kind": "contains"}, "", "it is 4", "ungraded"),
        ({"kind": "boxed"}, "", "4", "ungraded"),
    ],
)
def test_verdicts(told, answer, response, outcome, tmp_path):
    assert verdict(told, response, tmp_path, answer) == outcome


def test_what_is_cut_off_and_cannot_be_read_is_truncated(tmp_path):
    for told in ({"kind": "regex", "pattern": "x"}, {"kind": "json"}):
        assert verdict(told, '{"n": ', tmp_path, truncated=True) == "truncated"


def test_languages(tmp_path):
    pytest.importorskip("py3langid")
    german = "Das ist ein ganz gewöhnlicher Satz auf Deutsch, wie man ihn überall lesen kann."
    assert verdict({"kind": "language", "language": "de"}, german, tmp_path) == "right"
    assert verdict({"kind": "language", "language": "en"}, german, tmp_path) == "wrong"
    assert verdict({"kind": "language"}, german, tmp_path, answer="de") == "right"
    assert verdict({"kind": "language"}, german, tmp_path) == "ungraded"
    assert verdict({"kind": "language", "language": "de"}, "Ja.", tmp_path) == "unparsable"
    with pytest.raises(UserError, match="'xx' is not known"):
        verdict({"kind": "language", "language": "xx"}, german, tmp_path)


@pytest.mark.slow
def test_a_pattern_that_never_ends_is_given_up(tmp_path):
    start = time.monotonic()
    with pytest.raises(UserError, match="backtracks"):
        verdict({"kind": "regex", "pattern": r"^(a|aa)+$"}, "a" * 60 + "!", tmp_path)
    schema = {"type": "string", "pattern": r"^(a|aa)+$"}
    with pytest.raises(UserError, match="takes longer"):
        verdict({"kind": "json", "json_schema": schema}, json.dumps("a" * 60 + "!"), tmp_path)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"kind": "regex"}, "needs 'pattern'"),
        ({"kind": "regex", "pattern": "("}, "no regular expression"),
        ({"kind": "python"}, "needs 'function'"),
        ({"kind": "judge"}, "needs 'judge'"),
        ({"kind": "json", "json_schema": {}, "schema_file": "x"}, "not both"),
    ],
)
def test_graders_that_lack_something(told, said):
    with pytest.raises((ValueError, UserError), match=said):
        Grading.model_validate(told)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nothing"}, "JSON schema is none"),
        ({"$ref": "https://example.invalid/s.json"}, "outside of it"),
        ({"patternProperties": {"(a+)+$": {}}}, "not read here"),
        ({"$ref": "#"}, "refers to itself"),
        (
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
            "refers to itself",
        ),
        ({"$ref": "#/$defs/none"}, "cannot be applied"),
    ],
)
def test_schemas_that_are_refused(schema, said, tmp_path):
    with pytest.raises(UserError, match=said):
        verdict({"kind": "json", "json_schema": schema}, "{}", tmp_path)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"kind": "json", "json_schema": {"$ref": "#/$defs/none"}}, "cannot be applied"),
        ({"kind": "json", "schema_file": "none.json"}, "no file of this name"),
        ({"kind": "json", "schema_file": "../x.json"}, "outside"),
        ({"kind": "language", "language": "xx"}, "not known"),
        ({"kind": "python", "function": "none.py:grade"}, "no file of this name"),
    ],
)
def test_what_cannot_judge_is_said_before_anything_is_judged(told, said, tmp_path):
    with pytest.raises(UserError, match=said):
        Grading.model_validate(told).check(tmp_path)


def test_a_schema_in_a_file_beside(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    told = {"kind": "json", "schema_file": "s.json"}
    assert verdict(told, '{"n": 3}', tmp_path) == "right"
    with pytest.raises(UserError, match="outside"):
        verdict({**told, "schema_file": "../s.json"}, "{}", tmp_path / "in")


GRADER = """
def good(prompt, response, answer):
    return response == prompt[::-1]

def outcome(prompt, response, answer):
    return "unparsable"

def odd(prompt, response, answer):
    return 3

def broken(prompt, response, answer):
    return response[99]
"""


def test_python_is_run_where_it_is_named(tmp_path):
    (tmp_path / "g.py").write_text(GRADER)

    def by(name: str, response: str = "q", **more):
        return verdict({"kind": "python", "function": f"g.py:{name}"}, response, tmp_path, **more)

    assert by("good") == "right"
    assert by("good", "x") == "wrong"
    assert by("good", "x", truncated=True) == "truncated"
    assert by("outcome") == "unparsable"
    with pytest.raises(UserError, match="called an answer to example 1 3"):
        by("odd")
    with pytest.raises(UserError, match=r"g\.py, line 12: IndexError"):
        by("broken")
    with pytest.raises(UserError, match="no function 'none'"):
        by("none")
    with pytest.raises(UserError, match="only for somebody who names it"):
        by("good", trusted=False)


def test_reading_a_study_runs_no_grader(tmp_path):
    """A description is run for who types its name, and refused for who finds it in a study."""
    (tmp_path / "g.py").write_text("raise SystemExit('run')")
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "t.yaml").write_text(
        "name: t\ntrain: {dataset: p.jsonl}\ntest: {dataset: p.jsonl}\ncolumns: {answer: null}\ncontext: {text: c}\n"
        "grader: {kind: python, function: 'g.py:grade'}\n"
    )
    found = get_task(str(tmp_path / "t.yaml"))
    with pytest.raises(UserError, match="Name the task's file yourself"):
        found.grade(found.examples("test")[0], "x", False)
    named = get_task(str(tmp_path / "t.yaml"), run_code=True)
    with pytest.raises(UserError, match="SystemExit: run"):
        named.grade(named.examples("test")[0], "x", False)


@given(st.text(max_size=200))
def test_any_response_has_a_verdict(response):
    from pathlib import Path

    for told in ({"kind": "regex", "pattern": r"(?P<answer>\d+)"}, {"kind": "json", "json_schema": SCHEMA}):
        for truncated in (False, True):
            found = verdict(told, response, Path(), answer="1", truncated=truncated)
            assert found in ("right", "wrong", "unparsable", "truncated")
