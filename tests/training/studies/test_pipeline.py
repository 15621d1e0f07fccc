"""From a configuration to tables: which configurations continue a study, and where its models run."""

import pandas as pd
import pytest
from elsewhere import elsewhere

from cr_interp.measure import readings
from cr_interp.models import devices
from cr_interp.models.forward import device_of
from training.settings import load_config
from training.studies import pipeline
from training.studies.pipeline import capture_study, different, evaluate_study, open_or_create


def test_an_older_study_is_continued_with_what_are_the_defaults_now():
    config = load_config("organism-shift").model_dump(mode="json")
    older = {
        **config,
        "training": {k: v for k, v in config["training"].items() if k in ("steps", "batch_size", "lr")},
    }
    assert different(older, config) == []
    lora = load_config("organism-shift", ["training.lora.rank=4"]).model_dump(mode="json")
    assert different(older, lora) == ["training"]


@pytest.mark.slow
def test_a_study_is_measured_on_the_device_there_is(tmp_path, monkeypatch):
    """On a second device that is pretended, with the tables of the CPU."""
    config = load_config("organism-shift", ["evaluation.examples=3", "evaluation.batch_size=2"])
    here = capture_study(evaluate_study(open_or_create(config, tmp_path / "here"), config), config)
    ran = []
    rows, drift = pipeline.behaviour_rows, readings.measure_drift
    monkeypatch.setattr(
        pipeline, "behaviour_rows", lambda loaded, *rest: ran.append(loaded) or rows(loaded, *rest)
    )
    monkeypatch.setattr(
        readings, "measure_drift", lambda loaded, *rest: ran.append(loaded) or drift(loaded, *rest)
    )
    with elsewhere() as there:
        monkeypatch.setattr(devices, "chosen_device", lambda: there)
        away = capture_study(evaluate_study(open_or_create(config, tmp_path / "away"), config), config)
    assert [device_of(each.model) for each in ran] == [there, there]
    assert away.manifest["model_fingerprint"] == here.manifest["model_fingerprint"]
    for table in ("generations", "token_drift", "cka_map"):
        pd.testing.assert_frame_equal(away.table(table), here.table(table), rtol=1e-3, atol=1e-5)
