"""No stale result: what was made with other settings, terms, code, data or weights is refused, or made anew when asked."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cr_interp.errors import UserError
from cr_interp.study.study import Study
from cr_interp.tasks.yours.described import _split
from cr_interp.tasks.yours.new import new_task
from cr_interp.tasks.yours.sources import read_rows
from training.run.distill import distill
from training.run.made_of import noted
from training.settings import StudyConfig, load_config
from training.studies import pipeline
from training.studies.pipeline import evaluate_study, open_or_create, reproduce

QUICK = [
    "arms=[mine]",
    "seeds=[0]",
    "own_arms.mine=[KL(q_x || f)]",
    "training.steps=2",
    "training.batch_size=4",
    "training.eval_every=2",
    "training.eval_examples=4",
    "training.save_every=2",
    "evaluation.examples=4",
    "evaluation.permutations=9",
    "evaluation.controls=[exact]",
]


def here(config, study, workers=None):
    """All runs in this process."""
    for arm in config.arms:
        for seed in config.seeds:
            distill(config, arm, seed, study)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> tuple[Path, Path]:
    """Where a study of one's own is, on files of one's own, and a copy of both: it is trained once for all these tests."""
    place, copy = (tmp_path_factory.mktemp(name) / "all" for name in ("own", "copy"))
    new_task("mine", place / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run_all", here)
        reproduce(configured(place / "mine" / "study.yaml"), place / "s")
    shutil.copytree(place, copy)
    return place, copy


@pytest.fixture
def own(made_once, monkeypatch) -> Path:
    """The description of that study, whose files are as they were: each test may change them."""
    place, copy = made_once
    shutil.rmtree(place)
    shutil.copytree(copy, place)  # with the times of the files
    read_anew()
    monkeypatch.setattr(pipeline, "run_all", here)
    return place / "mine" / "study.yaml"


@pytest.fixture
def first(own) -> Study:
    """The study itself, reproduced with nothing but :data:`QUICK`."""
    return Study.open(own.parent.parent / "s")


def read_anew() -> None:
    """A process reads a file once."""
    for read in (_split, read_rows):
        read.cache_clear()


def configured(own: Path, *overrides: str) -> StudyConfig:
    return load_config(str(own), [*QUICK, *overrides])


def state(study: Study) -> dict[str, bytes]:
    """Every file of a study but for its manifest's times."""
    return {
        str(file.relative_to(study.path)): file.read_bytes()
        for file in study.path.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def a_row_of(split: str):
    def change(own: Path) -> None:
        rows = [json.loads(line) for line in (own.parent / f"{split}.jsonl").read_text().splitlines()]
        for row in rows:
            row["answer"] = "".join(sorted(row["answer"]))
        (own.parent / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return change


def in_the_task(old: str, new: str):
    return lambda own: rewrite(own.parent / "task.yaml", old, new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "overrides", "said", "trains_again"),
    [
        (
            None,
            ['own_arms.mine=["KL(q_x || f)", "0.5 * KL(sg[q_x] || q_c)"]'],
            r"objective \(\[KL\(q_x \|\| f\)\], now",
            True,
        ),
        (None, ["training.lr=0.001"], r"training\.lr \(.*, now 0\.001\)", True),
        (None, ["evaluation.temperature=1"], r"evaluation\.temperature \(0\.0, now 1\.0\)", False),
        (a_row_of("train"), [], r"training data \(other content\)", True),
        (a_row_of("test"), [], r"evaluation data \(other content\)", False),
        (
            lambda own: (own.parent / "context.txt").write_text("reverse it"),
            [],
            r"context \(exact\) \(other",
            True,
        ),
        (in_the_task("kind: contains", "kind: boxed"), [], r"description of the task \(other content\)", True),
    ],
    ids=["terms", "setting", "evaluation", "train", "test", "context", "grader"],
)
def test_what_changed_is_said_and_nothing_old_is_kept(
    own, first, tmp_path, change, overrides, said, trains_again
):
    study = first
    before = state(study)
    clock = {file: (study.path / file).stat().st_mtime_ns for file in before}
    reproduce(configured(own), study.path)  # nothing changed: nothing is done
    assert {file: (study.path / file).stat().st_mtime_ns for file in before} == clock
    if change:
        change(own)
        read_anew()
    with pytest.raises(UserError, match=said) as refused:
        reproduce(configured(own, *overrides), study.path)
    assert "--again" in str(refused.value)
    assert state(study) == before
    anew = reproduce(configured(own, *overrides), study.path, again=True)
    whole = reproduce(configured(own, *overrides), tmp_path / "from-nothing")
    model = "runs/mine-s0/checkpoint-2/model.safetensors"
    assert (anew.path / model).read_bytes() == (whole.path / model).read_bytes()
    assert ((anew.path / model).stat().st_mtime_ns != clock[model]) == trains_again
    for table in ("generations", "drift", "token_drift", "cka_map"):
        assert anew.table(table).equals(whole.table(table))
    for key in ("config", "context", "arms", "training", "evaluation", "made_of"):
        assert anew.manifest[key] == whole.manifest[key], key


@pytest.mark.slow
def test_code_of_ones_own_is_part_of_what_was_made(own, tmp_path):
    shutil.rmtree(own.parent)
    new_task("mine", own.parent, python=True)
    study = reproduce(configured(own), tmp_path / "s")
    task = own.parent / "task.py"
    task.write_text(task.read_text() + "\n# a comment is not worth a run, but who is to say what is one?\n")
    with pytest.raises(UserError, match=r"code of the task \(other content\)"):
        reproduce(configured(own), tmp_path / "s")
    with pytest.raises(UserError, match="code of the task"):
        evaluate_study(study, configured(own))


@pytest.mark.slow
def test_other_arms_and_seeds_join_and_are_not_thrown_away(own, first):
    two = ["arms=[mine,other]", "own_arms.other=[KL(q_c || f)]"]
    study = reproduce(configured(own, *two), first.path)
    assert set(study.table("generations")["arm"]) == {"base", "mine", "other"}
    before = state(study)
    with pytest.raises(UserError, match="does not make anew: other seed 0"):
        reproduce(configured(own, "training.lr=0.001"), study.path, again=True)
    assert state(study) == before


@pytest.mark.slow
def test_rows_say_what_they_were_made_of(first):
    study = first
    for table in ("generations", "drift", "token_drift", "cka_map"):
        rows = study.table(table)
        assert rows.groupby("arm")["made_of"].nunique().tolist() == [1, 1]
        assert rows["made_of"].nunique() == 2  # the base and the run
        assert {f"#{origin.split('-')[0]}" for origin in rows["made_of"]} == set(study.manifest["asked"])
    assert noted(study.run_path("mine", 0))["objective"] == ["KL(q_x || f)"]


@pytest.mark.slow
def test_another_checkpoint_in_the_same_place_is_not_the_one_that_was_measured(own, first):
    from safetensors.torch import load_file, save_file

    study = first
    file = study.run_path("mine", 0) / "checkpoint-2" / "model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"checkpoint \(other content\).*rows of mine seed 0"):
        evaluate_study(study, configured(own))


@pytest.mark.slow
def test_a_study_that_was_begun_and_has_no_results_takes_the_new_settings(own, tmp_path):
    open_or_create(configured(own), tmp_path / "s")
    study = open_or_create(configured(own, "training.lr=0.001"), tmp_path / "s")
    assert study.manifest["training"]["lr"] == 0.001


@pytest.mark.slow
def test_a_study_of_before_this_was_noted_is_judged_by_its_manifest(own, first):
    study = first
    (study.run_path("mine", 0) / "made_of.json").unlink()
    manifest = json.loads((study.path / "manifest.json").read_text())
    for key in ("made_of", "asked"):
        manifest.pop(key)
    (study.path / "manifest.json").write_text(json.dumps(manifest))
    for table in ("generations", "drift", "token_drift", "cka_map"):
        study.replace(table, study.table(table).drop(columns="made_of"))
    before = state(study)
    reproduce(configured(own), study.path)
    assert {k: v for k, v in state(study).items() if not k.endswith(".json")} == {
        k: v for k, v in before.items() if not k.endswith(".json")
    }
    with pytest.raises(UserError, match=r"training\.lr"):
        reproduce(configured(own, "training.lr=0.001"), study.path)
    with pytest.raises(UserError, match=r"objective"):
        reproduce(configured(own, "own_arms.mine=[KL(q_c || f)]"), study.path)


@pytest.mark.slow
def test_a_run_alone_is_not_continued_as_another(own, tmp_path):
    study = Study.create(tmp_path / "s", {})
    distill(configured(own), "mine", 0, study)
    with pytest.raises(UserError, match=r"begun with another training\.steps \(2, now 4\)"):
        distill(configured(own, "training.steps=4"), "mine", 0, study)
    assert yaml.safe_load(own.read_text())  # what one has written is never touched


@pytest.mark.slow
def test_rows_of_ones_own_that_are_in_no_table_are_counted_aloud(own, tmp_path, capsys):
    rows = (own.parent / "test.jsonl").read_text().splitlines()
    (own.parent / "test.jsonl").write_text("\n".join([*rows, rows[0], rows[1]]) + "\n")
    train = (own.parent / "train.jsonl").read_text().splitlines()
    (own.parent / "train.jsonl").write_text("\n".join([*train, rows[0]]) + "\n")
    read_anew()
    config = configured(own)
    evaluate_study(open_or_create(config, tmp_path / "s"), config)
    said = capsys.readouterr().err
    assert f"2 of the {len(rows) + 2} test rows of mine repeat a prompt." in said
    assert f"1 of the {len(train) + 1} training prompts of mine are also tested, so not trained on." in said
    assert f"4 of the {len(rows)} test examples of mine are asked (evaluation.examples)." in said
