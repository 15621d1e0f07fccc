"""Every number that somebody can set has two ends, in every configuration and for every option."""

import typing
from collections.abc import Iterator
from typing import Any

import annotated_types
import pytest
import typer
from pydantic import BaseModel, ValidationError

from cr_interp import cli
from cr_interp.measure.case_study import CaseStudy
from cr_interp.measure.settings import Drawn, Evaluation
from cr_interp.tasks.yours.described import Description
from cr_interp.tasks.yours.judge import Judge
from cr_interp.tasks.yours.sources import Text
from training.organisms.pretrain import PretrainConfig
from training.settings import Lora, Plateau, StudyConfig, Training
from training.studies.choice import Chosen, Sentinel
from training.studies.preregistration import (
    Adaptive,
    Candidates,
    Choice,
    Confirmation,
    Eligible,
    Screening,
    Sentinels,
    Success,
)

PARTS = (
    *(Plateau, Screening, Eligible, Choice, Sentinels, Adaptive, Confirmation, Success, Candidates),
    *(Chosen, Sentinel, Drawn),
)
MODELS = (StudyConfig, Training, Lora, Evaluation, CaseStudy, Description, PretrainConfig, Text, Judge, *PARTS)
#: One value only, which a validator says; a variable of a chat template, which is written and not computed with.
FIXED = {"Lora.dropout", "StudyConfig.template", "CaseStudy.template"}


def unbounded(annotation: object, bounds: tuple = ()) -> bool:
    """Is there an int or a float in a type without a lower and an upper end?"""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return unbounded(inner, (*bounds, *more))
    if annotation in (int, float):
        found = [each for bound in bounds for each in getattr(bound, "metadata", [bound])]
        low = any(isinstance(each, annotated_types.Gt | annotated_types.Ge) for each in found)
        high = any(isinstance(each, annotated_types.Lt | annotated_types.Le) for each in found)
        return not (low and high)
    if isinstance(annotation, type) or typing.get_origin(annotation) is typing.Literal:
        return False
    return any(unbounded(part, bounds) for part in typing.get_args(annotation))


@pytest.mark.parametrize("model", MODELS)
def test_every_number_of_a_configuration_has_two_ends(model: type[BaseModel]):
    found = [
        f"{model.__name__}.{name}"
        for name, field in model.model_fields.items()
        if unbounded(field.annotation, tuple(field.metadata)) and f"{model.__name__}.{name}" not in FIXED
    ]
    assert found == []


def commands() -> Iterator[tuple[str, Any]]:
    cli.plug_in()
    group: Any = typer.main.get_command(cli.app)
    yield from group.commands.items()


def test_every_number_among_the_options_has_two_ends():
    found, numbers = [], 0
    for name, command in commands():
        for option in command.params:
            kinds = {option.type_descriptor.annotation, *typing.get_args(option.type_descriptor.annotation)}
            if kinds & {int, float}:
                numbers += 1
                if option.min is None or option.max is None:
                    found.append(f"{name} {option.name}")
    assert found == []
    assert numbers > 12


@pytest.mark.parametrize("value", [1e-320, 1e-30, -1, 1e4, float("inf"), float("nan")])
def test_a_temperature_that_logits_survive(value):
    for model in (Training, Evaluation):
        with pytest.raises(ValidationError):
            model(temperature=value)
    assert Evaluation(temperature=0).temperature == 0


@pytest.mark.parametrize("model", [Training, Evaluation, StudyConfig, Lora, CaseStudy])
def test_yes_is_no_number(model):
    for name, field in model.model_fields.items():
        if {int, float} & {field.annotation, *typing.get_args(field.annotation)}:
            with pytest.raises(ValidationError, match="a number is wanted"):
                model.model_validate({name: True})
