"""A checkpoint is whole or not taken: whatever happens to a file of one, the run ends with the bits it would have had."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cr_interp.study.study import Study
from training.run.checkpoints import checkpoints, flaw, folders, latest_checkpoint, passed_over
from training.run.distill import distill, is_finished
from training.run.made_of import noted
from training.settings import load_config
from training.studies.pipeline import study_checkpoints

CONFIG = load_config(
    "organism-shift",
    [
        "training.steps=5",
        "training.batch_size=4",
        "training.save_every=2",
        "training.eval_every=3",
        "training.eval_examples=4",
        "training.keep_checkpoints=9",
    ],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Study:
    """A run that nothing happened to: checkpoints 2, 4, 5, evaluated at 0 and 3."""
    study = Study.create(tmp_path_factory.mktemp("whole") / "s", {"model": CONFIG.model})
    distill(CONFIG, "nca", 0, study)
    return study


@pytest.fixture
def study(whole, tmp_path) -> Study:
    shutil.copytree(whole.path, tmp_path / "s")
    return Study.open(tmp_path / "s")


def run(study: Study) -> Path:
    return study.run_path("nca", 0)


def missing(name):
    return lambda folder: (folder / name).unlink()


def flipped(name):
    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


def edited_step(folder: Path) -> None:
    state = json.loads((folder / "trainer_state.json").read_text())
    (folder / "trainer_state.json").write_text(json.dumps({**state, "global_step": 1}))


def another_step(folder: Path) -> None:
    """The whole of another step under this one's name."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("checkpoint-2"), folder)


def added(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def linked(folder: Path) -> None:
    file = folder / "model.safetensors"
    aside = folder.parent / "aside"
    shutil.move(file, aside)
    file.symlink_to(aside)


DAMAGES = {
    "optimizer": missing("optimizer.pt"),
    "scheduler": missing("scheduler.pt"),
    "rng": missing("rng_state.pth"),
    "weights": missing("model.safetensors"),
    "state": missing("trainer_state.json"),
    "list": missing("checkpoint.json"),
    "config": missing("config.json"),
    "edited step": edited_step,
    "another step": another_step,
    "added": added,
    "linked": linked,
    "cut": cut("optimizer.pt"),
    "list cut": cut("checkpoint.json"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_as_it_was_written_is_not_whole(study, damage):
    last = latest_checkpoint(run(study))
    assert last.name == "checkpoint-5"
    assert passed_over(run(study)) is None
    damage(last)
    if damage is DAMAGES["list cut"]:  # only the newline at its end
        assert flaw(last) is None
        (last / "checkpoint.json").write_text("{")
    assert flaw(last)
    assert latest_checkpoint(run(study)).name == "checkpoint-4"
    assert "checkpoint-5" in passed_over(run(study))
    assert passed_over(run(study)).endswith("it continues from checkpoint-4.")
    assert not is_finished(study, "nca", 0, CONFIG)
    assert [step for arm, _, step, _ in study_checkpoints(study, CONFIG) if arm == "nca"] == []


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[]", '{"step": Infinity, "files": {}}', '{"step": 5, "files": {"a": 1}}', "\xff", None],
)
def test_a_list_of_files_from_anybody(study, text):
    """None: a pipe, which would keep a reader waiting."""
    seal = latest_checkpoint(run(study)) / "checkpoint.json"
    seal.unlink()
    os.mkfifo(seal) if text is None else seal.write_bytes(text.encode("latin-1"))
    assert flaw(seal.parent)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "1", "\xff", None])
def test_a_note_of_a_run_from_anybody(text, tmp_path):
    note = tmp_path / "made_of.json"
    os.mkfifo(note) if text is None else note.write_bytes(text.encode("latin-1"))
    assert noted(tmp_path) is None


def test_a_bit_in_any_file_is_noticed(study):
    for file in sorted(latest_checkpoint(run(study)).iterdir()):
        folder = file.parent
        before = file.read_bytes()
        flipped(file.name)(folder)
        assert flaw(folder), file.name
        file.write_bytes(before)
        assert flaw(folder) is None


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["optimizer", "edited step", "weights"])
def test_the_last_whole_one_is_taken_and_the_end_is_the_same(whole, study, damage, capsys):
    DAMAGES[damage](latest_checkpoint(run(study)))
    DAMAGES["scheduler"](run(study) / "checkpoint-4")
    final = distill(CONFIG, "nca", 0, study)
    said = capsys.readouterr().err
    assert "not whole and not used: checkpoint-4 (scheduler.pt is missing); checkpoint-5" in said
    assert "continues from checkpoint-2" in said
    assert [path.name for path in checkpoints(run(study))] == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    expected = load_file(run(whole) / final.name / "model.safetensors")
    found = load_file(final / "model.safetensors")
    assert all((found[name] == expected[name]).all() for name in expected)

    def logged(each: Study) -> list[tuple]:
        return [
            (row["kind"], row["step"], row.get("loss"), row.get("acc_x")) for row in each.train_rows("nca", 0)
        ]

    assert logged(study) == logged(whole)


@pytest.mark.slow
def test_with_no_whole_one_left_the_run_begins_again(whole, study, capsys):
    for folder in folders(run(study)):
        (folder / "optimizer.pt").unlink()
    (run(study) / ".saving-checkpoint-4").mkdir()
    final = distill(CONFIG, "nca", 0, study)
    assert "it begins again with the first step" in capsys.readouterr().err
    assert (final / "model.safetensors").read_bytes() == (
        run(whole) / final.name / "model.safetensors"
    ).read_bytes()
    assert not list(run(study).glob(".saving-*"))


def test_a_checkpoint_of_before_there_were_lists_is_whole_if_a_run_can_go_on_from_it(study):
    last = latest_checkpoint(run(study))
    (run(study) / "made_of.json").unlink()
    (last / "checkpoint.json").unlink()
    assert flaw(last) is None
    assert is_finished(study, "nca", 0, CONFIG)
    edited_step(last)
    assert flaw(last) == "its state is of step 1"
    (last / "optimizer.pt").unlink()
    assert flaw(last) == "its optimizer is missing"


def test_a_checkpoint_off_the_schedule_is_not_measured(study):
    every = CONFIG.model_copy(update={"every_step": True})
    assert [step for *_, step, _ in study_checkpoints(study, every)] == [0, 2, 4, 5]
    rarer = every.model_copy(update={"training": CONFIG.training.model_copy(update={"save_every": 4})})
    assert [step for *_, step, _ in study_checkpoints(study, rarer)] == [0, 4, 5]
