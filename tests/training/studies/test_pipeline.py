"""From a configuration to tables: which configurations continue a study, and where its models run."""

import pandas as pd
import pytest
import yaml
from elsewhere import elsewhere
from synthetic import make_study

from cr_interp.errors import UserError
from cr_interp.measure import readings
from cr_interp.models import devices
from cr_interp.models.forward import device_of
from training.settings import load_config
from training.studies import pipeline
from training.studies.pipeline import capture_study, close, config_of, different, evaluate_study, open_or_create


def test_an_older_study_is_continued_with_what_are_the_defaults_now():
    config = load_config("organism-shift").model_dump(mode="json")
    older = {
        **config,
        "training": {k: v for k, v in config["training"].items() if k in ("steps", "batch_size", "lr")},
    }
    assert different(older, config) == []
    lora = load_config("organism-shift", ["training.lora.rank=4"]).model_dump(mode="json")
    assert different(older, lora) == ["training"]


def test_a_manifest_has_the_command_that_names_all_of_a_study(tmp_path, monkeypatch):
    """Seeds that are added later are in the command that its reader would type again."""
    study = make_study(tmp_path / "s", arms=("base", "opd", "nca"), seeds=(0,), tables=("training",))
    study = study.update_manifest(command="cr-interp reproduce organism-shift --seeds 0")

    def closed(*seeds):
        words = ["cr-interp", "reproduce", "organism-shift", "--seeds", ",".join(map(str, seeds))]
        monkeypatch.setattr("sys.argv", words)
        config = load_config("organism-shift").model_copy(update={"arms": ("opd", "nca"), "seeds": seeds})
        return close(study, config).manifest

    study.update_manifest(arms={"opd": {}, "nca": {}})
    assert closed(0)["command"] == "cr-interp reproduce organism-shift --seeds 0"
    assert closed(0, 1)["command"] == "cr-interp reproduce organism-shift --seeds 0,1"
    later = closed(2)  # which alone would not make the study
    assert (later["command"], later["seeds"]) == ("cr-interp reproduce organism-shift --seeds 0,1", [0, 1, 2])


@pytest.mark.slow
def test_a_study_is_measured_on_the_device_there_is(tmp_path, monkeypatch):
    """On a second device that is pretended, with the tables of the CPU."""
    config = load_config(
        "organism-shift", ["evaluation.examples=3", "evaluation.batch_size=2", "evaluation.permutations=9"]
    )
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


def from_anybody(folder, **manifest):
    """A study whose configuration names the description of a task in its own folder."""
    study = make_study(folder / "s", tables=())
    config = load_config("organism-shift").model_dump(mode="json") | {"task": str(study.path / "task.yaml")}
    return study.update_manifest(
        **{"config": config, "model": config["model"], "teacher": config["model"], **manifest}
    )


def described(study, **changes):
    rows = "".join(f'{{"prompt": "p{n}", "answer": "x"}}\n' for n in range(40))
    (study.path / "rows.jsonl").write_text(rows)
    (study.path / "grader.py").write_text("raise SystemExit(99)\n")
    told = {
        "name": "mine",
        "train": {"dataset": "rows.jsonl"},
        "test": {"dataset": "rows.jsonl"},
        "context": {"text": "be brief"},
        "grader": {"kind": "contains"},
        **changes,
    }
    (study.path / "task.yaml").write_text(yaml.safe_dump(told))


CODE = {"kind": "python", "function": "grader.py:grade"}
JUDGE = {"kind": "judge", "judge": {"url": "http://127.0.0.1:1/v1", "model": "m", "prompt": "{response}"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grader": CODE}, "grader 'python' runs code"),
        ({"mismatched": {"text": "x"}, "new_instruction": CODE}, "grader 'python' runs code"),
        ({"grader": JUDGE}, "grader 'judge' asks a server"),
        ({"train": {"dataset": "somebody/data"}}, "rows or texts are not on this machine"),
        (
            {"context": {"url": "https://x.invalid/c", "sha256": "0" * 64}},
            "rows or texts are not on this machine",
        ),
        ({"paraphrase": {"repo": "somebody/data", "path": "c.txt"}}, "rows or texts are not on this machine"),
    ],
)
def test_the_task_that_a_study_brings_runs_nothing_and_asks_nobody(changes, said, tmp_path):
    """Only its own description is asked; one that a person names is trusted."""
    study = from_anybody(tmp_path)
    described(study, **changes)
    with pytest.raises(UserError, match=f"{said}.*--task"):
        config_of(str(study.path))
    assert config_of(str(study.path), task_file=str(study.path / "task.yaml"))
    described(study)
    assert config_of(str(study.path))[1].task == str(study.path / "task.yaml")


@pytest.mark.parametrize("section", ["model", "teacher"])
def test_no_section_of_a_manifest_makes_anybody_ask_the_hub(section, tmp_path):
    study = from_anybody(tmp_path, **{section: "somebody/model"})
    described(study)
    with pytest.raises(UserError, match=r"not on this machine. What a file names is not downloaded"):
        config_of(str(study.path))
