"""The reference describes every key of a configuration and every column of a table."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel

from cr_interp.measure.case_study import CaseStudy
from cr_interp.tasks.yours.described import Description
from training.settings import StudyConfig

pytest.importorskip("griffe", reason="the documentation's packages are in the extra `docs`")
TOOLS = Path(__file__).resolve().parents[2] / "docs" / "tools"


@pytest.fixture(scope="module")
def reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        yield import_module("reference")
    sys.modules.pop("reference", None)


def sections(model: type[BaseModel], reference) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in reference._models(field.annotation):
            yield from sections(inner, reference)


@pytest.mark.parametrize("model", [StudyConfig, CaseStudy, Description])
def test_every_key_is_described(model, reference):
    for section in sections(model, reference):
        said = reference._said(section)
        assert [key for key in section.model_fields if not said.get(key)] == [], section


def test_every_column_is_described(reference):
    assert "| `example_id` |" in reference.tables()


def test_a_type_is_told_without_the_checks_of_its_values(reference):
    """``Annotated[str, …]`` is a text for who writes YAML, wherever it stands."""
    for page in reference.pages().values():
        assert not re.search(r"Annotated|Validator|FieldInfo|PydanticUndefined", page)
