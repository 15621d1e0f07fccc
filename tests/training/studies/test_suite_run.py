"""The suite's computing half: configurations, cutting to arms, running, continuing, tuning."""

import pandas as pd
import pytest
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.study.study import Study
from cr_interp.tasks import get_task
from training.objectives import arm_terms
from training.settings import load_config, setting_names, suite_configs
from training.studies.suite import chosen_rates, run_suite, tune_suite

ABLATIONS = {"nca_beta01", "nca_beta1", "dual_opd", "sym_kl", "nca_no_stop", "nca_reverse"}


def test_twelve_settings_as_in_the_paper():
    from cr_interp.tables.suite import SETTINGS

    assert sorted(SETTINGS) == setting_names()
    configs = suite_configs()
    assert len(configs) == 12
    for name, config in configs.items():
        assert config.name == name
        get_task(config.task)
        assert config.arms[:2] == ("opd", "nca")
        assert config.seeds == (0, 1, 2)
        assert (config.teacher is not None) == name.endswith("-cross")
        assert all(arm_terms(arm, config.own_arms) for arm in config.arms)
    games = {
        name for name, config in configs.items() if config.task.partition(":")[0] in ("frozenlake", "sokoban")
    }
    assert {name: config.training.steps for name, config in configs.items()} == {
        name: 200 if name in games else 100 for name in configs
    }
    assert games == {name for name in configs if name.endswith(("-self", "-cross"))}
    with_ablations = [name for name, config in configs.items() if set(config.arms) >= ABLATIONS]
    assert len(with_ablations) == 3


def test_cutting_to_arms_leaves_out_settings_without_them():
    assert len(suite_configs(arms=["opd"])) == 12
    assert len(suite_configs(arms=["sym_kl"])) == 3
    with pytest.raises(UserError, match="None of these settings has an arm among nothing"):
        suite_configs(arms=["nothing"])
    with pytest.raises(UserError, match="Did you mean 'rules-llama'"):
        suite_configs(["rules-lama"])


def test_a_setting_is_an_ordinary_configuration():
    assert load_config("suite/rules-llama").name == "rules-llama"


def test_the_rate_is_chosen_by_the_last_validation_accuracy_then_the_lower_one():
    rows = [
        ("a", lr, step, acc)
        for lr, at10, at20 in ((1e-4, 0.9, 0.5), (3e-4, 0.2, 0.8), (1e-3, 0.1, 0.8))
        for step, acc in ((10, at10), (20, at20))
    ]
    tuning = pd.DataFrame(rows, columns=["setting", "lr", "step", "acc_x"])
    assert chosen_rates(tuning) == {"a": 3e-4}


def test_a_teacher_that_does_not_follow_its_context_is_refused_before_anything_is_made(tmp_path):
    configs = suite_configs(["rules-llama", "codebook-llama", "rules-qwen3"], ["opd"])
    configs["rules-qwen3"] = configs["rules-qwen3"].model_copy(update={"model": "builtin:nobody"})
    configs["codebook-llama"] = configs["codebook-llama"].model_copy(update={"model": tiny_folder(tmp_path)})
    with pytest.raises(UserError) as said:
        run_suite(configs, tmp_path / "suite")
    assert "is right in 0% of 64 prompts with the context" in str(said.value)
    assert "rules-qwen3 (There is no built-in model 'builtin:nobody')" in str(said.value)
    assert "--settings rules-llama." in str(said.value)
    assert not (tmp_path / "suite").exists()


def tiny_folder(tmp_path):
    """A random model as a folder."""
    loaded = tiny()
    loaded.model.save_pretrained(tmp_path / "tiny")
    loaded.tokenizer.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.fixture
def quick(monkeypatch):
    """Two settings of three steps, whatever their teachers know."""
    import training.studies.suite as suite

    monkeypatch.setattr(suite, "check_teachers", lambda configs: None)

    def configs(settings=(), arms=(), overrides=()):
        more = ["training.steps=3", "training.batch_size=4", "training.eval_every=3", "training.save_every=3"]
        more += ["training.eval_examples=8", "evaluation.examples=8", "evaluation.controls=[exact,mismatched]"]
        more += ["evaluation.permutations=9"]
        return original(settings or ["rules-llama", "codebook-llama"], arms, [*more, *overrides])

    original = suite.suite_configs
    monkeypatch.setattr(suite, "suite_configs", configs)
    monkeypatch.setattr("training.settings.suite_configs", configs)
    return configs


@pytest.mark.slow
@pytest.mark.usefixtures("warm_jobs")
def test_a_suite_runs_and_typed_again_does_only_what_is_left(quick, tmp_path, capsys):
    from cr_interp.tables.suite import open_suite, suite_table

    run_suite(quick(arms=["opd"], overrides=["seeds=[0]"]), tmp_path, workers=2)
    study = Study.open(tmp_path / "rules-llama")
    assert study.manifest["finished"]
    assert list(study.manifest["arms"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    log = (study.run_path("opd", 0) / "train.jsonl").read_text()
    run_suite(quick(arms=["opd"], overrides=["seeds=[0]"]), tmp_path, workers=2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    run_suite(quick(arms=["opd", "nca"], overrides=["seeds=[0]"]), tmp_path, workers=2)
    assert (study.run_path("opd", 0) / "train.jsonl").read_text() == log
    table = suite_table(open_suite(tmp_path))
    assert set(table["setting"]) == {"rules-llama", "codebook-llama"}
    assert set(table["arm"]) == {"base", "opd", "nca"}


def test_every_setting_takes_what_the_command_line_changes(monkeypatch, tmp_path):
    import training.studies.suite as suite
    from training.commands import suite as command

    asked: list[dict] = []
    monkeypatch.setattr(suite, "run_suite", lambda configs, out, workers, again: asked.append(configs))
    monkeypatch.setattr("cr_interp.tables.suite.open_suite", lambda path: None)
    monkeypatch.setattr("cr_interp.report.suite.rich_suite", lambda found: "")
    command(["training.lr=1e-3"], settings="rules-llama,sokoban-self", arms="opd", seeds="1", out=tmp_path)
    assert {name: (c.training.lr, c.seeds) for name, c in asked[0].items()} == {
        "rules-llama": (1e-3, (1,)),
        "sokoban-self": (1e-3, (1,)),
    }
    with pytest.raises(UserError, match="chooses the learning rates itself"):
        command(["training.lr=1e-3"], tune=True, out=tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_jobs")
def test_tuning_runs_opd_alone(quick, tmp_path):
    found = tune_suite(["rules-llama"], tmp_path, workers=2, rates=(1e-4, 1e-3))
    assert set(found["lr"]) == {1e-4, 1e-3}
    assert set(found.columns) == {"setting", "lr", "step", "acc_x", "acc_xc", "harm"}
    assert sorted(path.name for path in tmp_path.glob("*/runs/*")) == ["opd-s0", "opd-s0"]
    assert set(chosen_rates(found)) == {"rules-llama"}
