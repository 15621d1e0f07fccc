"""Runs on the bundled organism: what is trained, what is logged, and that a kill changes nothing."""

import json
import sys
import time

import pytest
import torch
from elsewhere import elsewhere
from killing import killed_on_its_way, ran_until
from safetensors.torch import load_file
from transformers import TrainingArguments

from cr_interp.errors import UserError
from cr_interp.models.forward import device_of
from cr_interp.models.loading import load
from cr_interp.study.study import Study
from cr_interp.tasks import get_task
from training.objectives import arm_terms
from training.run.distill import distill, exact_context, training_examples
from training.run.rollouts import LocalRollouts, RolloutsLost
from training.run.trainer import DistillTrainer, Prompt, checkpoints, latest_checkpoint
from training.settings import load_config

SMALL = [
    "training.steps=6",
    "training.batch_size=8",
    "training.save_every=2",
    "training.eval_every=3",
    "training.eval_examples=8",
    "training.keep_checkpoints=9",
]


def small(*overrides):
    return load_config("organism-shift", [*SMALL, *overrides])


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def trainer(arm="nca", share=True, tmp_path=None):
    from cr_interp.models.generation import Decoding
    from cr_interp.views import render

    config = small(f"training.share_prefix={str(share).lower()}")
    student, teacher = load(config.model), load(config.model)
    task = get_task(config.task)
    context = exact_context(task, student, config)
    prompts = [
        Prompt(e.prompt, render(student.tokenizer, e.prompt), render(student.tokenizer, e.prompt, context))
        for e in training_examples(task, 8, 0)
    ]
    rollouts = LocalRollouts(Decoding(task.max_new_tokens, 1.0), 0)
    return DistillTrainer(student, teacher, prompts, arm_terms(arm), rollouts, config.training, tmp_path)


def step_gradients(made, responses):
    made.model.zero_grad()
    result = made.reader.losses(made.model, made.prompts, responses)
    result.total.backward()
    return result, {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["opd", "nca", "sym_kl"])
def test_a_step_with_the_context_computed_once_equals_the_naive_one(arm, tmp_path):
    shared, naive = trainer(arm, True, tmp_path), trainer(arm, False, tmp_path)
    assert shared._prefix_c > 20
    assert naive._prefix_c == 0
    # Away from the starting point, where the student is the teacher.
    torch.manual_seed(0)
    with torch.no_grad():
        for p, q in zip(shared.model.parameters(), naive.model.parameters(), strict=True):
            noise = 0.02 * torch.randn_like(p)
            p.add_(noise), q.add_(noise)
    responses = [
        list(r.ids) for r in shared.rollouts.sample(shared.student, [p.no_context for p in shared.prompts], 0)
    ]
    first, first_grads = step_gradients(shared, responses)
    second, second_grads = step_gradients(naive, responses)
    for name in first.terms:
        assert first.terms[name].item() == pytest.approx(second.terms[name].item(), rel=1e-4)
    error = sum((first_grads[n] - g).square().sum() for n, g in second_grads.items()).sqrt()
    assert error <= 1e-4 * sum(g.square().sum() for g in second_grads.values()).sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("top_k", [None, 16])
def test_the_teacher_is_where_the_trainer_puts_the_student(tmp_path, monkeypatch, share, top_k):
    """On a second device that is pretended, and refuses the CPU's tensors."""
    here = trainer("nca", share, tmp_path)
    prompts = [prompt.no_context for prompt in here.prompts]
    responses = [list(r.ids) for r in here.rollouts.sample(here.student, prompts, 0)]
    here.config.top_k = top_k
    expected, gradients = step_gradients(here, responses)
    with elsewhere() as there:
        monkeypatch.setattr(TrainingArguments, "device", property(lambda args: args._setup_devices and there))
        away = trainer("nca", share, tmp_path)
        assert {device_of(each.model) for each in (away.student, away.teacher)} == {there}
        away.student.model.tie_weights()  # a real device keeps them tied
        away.config.top_k = top_k
        assert [list(r.ids) for r in away.rollouts.sample(away.student, prompts, 0)] == responses
        found, moved = step_gradients(away, responses)
        assert {gradient.device for gradient in moved.values()} == {there}
        assert {n: v.item() for n, v in found.terms.items()} == pytest.approx(
            {n: v.item() for n, v in expected.terms.items()}, rel=1e-4
        )
        norm = sum(g.square().sum() for g in gradients.values()).sqrt()
        total = sum(g.cpu().square().sum() for g in moved.values()).sqrt()
    assert total.item() == pytest.approx(norm.item(), rel=1e-3)


def test_zero3s_weights_and_a_shared_prefix_exclude_each_other(tmp_path):
    made = trainer("nca", True, tmp_path)
    next(made.student.model.parameters()).ds_id = 0
    with pytest.raises(UserError, match=r"ZeRO-3.*training.share_prefix=false"):
        made.compute_loss(made.model, {"index": torch.tensor([0])})


def test_of_several_gpus_a_process_takes_one(tmp_path, monkeypatch):
    """Behind no launcher the Trainer multiplies the batch by the number of GPUs that it sees."""
    set_up = TrainingArguments._setup_devices.func

    def sees_eight(args):
        device = set_up(args)
        args._n_gpu = 8
        return device

    monkeypatch.setattr(TrainingArguments._setup_devices, "func", sees_eight)
    made = trainer("nca", True, tmp_path)
    made.train_dataset = list(range(128))
    assert {len(batch["index"]) for batch in made.get_train_dataloader()} == {made.config.batch_size}


def test_the_frozen_teacher_does_not_move_and_equals_q_c_at_the_start(tmp_path):
    made = trainer("nca", True, tmp_path)
    responses = [list(r.ids) for r in made.rollouts.sample(made.student, [p.no_context for p in made.prompts], 0)]
    result, _ = step_gradients(made, responses)
    # With student = teacher, KL(q_x || f) and KL(sg[q_x] || q_c) are the same number.
    values = [v.item() for v in result.terms.values()]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert all(p.grad is None and not p.requires_grad for p in made.teacher.model.parameters())


@pytest.mark.slow
def test_a_run_learns_logs_and_saves(tmp_path):
    config = small(
        "training.steps=20", "training.batch_size=32", "training.eval_every=10", "training.save_every=10"
    )
    study = Study.create(tmp_path / "s", {})
    final = distill(config, "opd", 0, study)
    assert final.name == "checkpoint-20"
    rows = study.train_rows("opd", 0)
    train = [r for r in rows if r["kind"] == "train"]
    evals = {r["step"]: r for r in rows if r["kind"] == "eval"}
    assert [r["step"] for r in train] == list(range(1, 21))
    assert set(evals) == {0, 10, 20}
    assert evals[20]["acc_x"] > evals[0]["acc_x"] + 0.3
    assert train[-1]["terms"]["KL(q_x || f)"] < train[0]["terms"]["KL(q_x || f)"] / 2
    assert {"grad_norm", "topk_mass", "tokens_per_second", "learning_rate"} <= set(train[0])
    assert not list(final.glob("training_args*"))
    assert distill(config, "opd", 0, study) == final  # finished: nothing is done again


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing has stopped, ``nca`` with seed 1."""
    study = Study.create(tmp_path_factory.mktemp("runs") / "whole", {})
    distill(small(), "nca", 1, study)
    return study


@pytest.mark.slow
def test_a_run_stopped_between_checkpoints_ends_with_the_same_bits(whole, tmp_path):
    parts = Study.create(tmp_path / "parts", {})
    final = latest_checkpoint(whole.run_path("nca", 1))

    class Stop(Exception):
        pass

    from transformers import TrainerCallback

    class Killer(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise Stop

    with pytest.raises(Stop):
        distill(small(), "nca", 1, parts, callbacks=[Killer()])
    assert latest_checkpoint(parts.run_path("nca", 1)).name == "checkpoint-4"
    again = distill(small(), "nca", 1, parts)
    assert_same(weights(final), weights(again))

    def logged(study):
        return [(r["step"], r["loss"]) for r in study.train_rows("nca", 1) if r["kind"] == "train"]

    assert logged(whole) == logged(parts)


@pytest.mark.slow
def test_rollouts_that_end_leave_a_checkpoint_of_the_step_before(whole, tmp_path, monkeypatch):
    parts = Study.create(tmp_path / "parts", {})
    final = latest_checkpoint(whole.run_path("nca", 1))
    sample = LocalRollouts.sample

    def gone(self, student, prompts, step, rows=None):
        if step == 3:
            raise RolloutsLost("The server is gone.")
        return sample(self, student, prompts, step, rows)

    rarely = small("training.save_every=100")
    monkeypatch.setattr(LocalRollouts, "sample", gone)
    with pytest.raises(RolloutsLost):
        distill(rarely, "nca", 1, parts)
    assert latest_checkpoint(parts.run_path("nca", 1)).name == "checkpoint-3"
    monkeypatch.setattr(LocalRollouts, "sample", sample)
    assert_same(weights(final), weights(distill(rarely, "nca", 1, parts)))


@pytest.mark.slow
def test_a_logger_of_the_trainer_gets_the_terms_and_the_metrics(tmp_path, monkeypatch):
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    logged: list[dict] = []

    class Board(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Board)
    plain, told = Study.create(tmp_path / "plain", {}), Study.create(tmp_path / "told", {})
    distill(small(), "nca", 0, plain)
    distill(small("report_to=[tensorboard]"), "nca", 0, told)
    steps = [logs for logs in logged if "loss" in logs]
    assert len(steps) == 6
    assert {"grad_norm", "tokens", "terms/KL(q_x || f)", "terms/KL(sg[q_x] || q_c)", "topk_mass/f"} <= set(
        steps[0]
    )
    assert any("eval_acc_xc" in logs for logs in logged)

    def kept(study):
        timed = ("seconds", "tokens_per_second", "peak_resident_bytes")
        return [{k: v for k, v in row.items() if k not in timed} for row in study.train_rows("nca", 0)]

    assert kept(told) == kept(plain)


def test_a_logger_that_nobody_knows_is_refused_with_the_configuration():
    with pytest.raises(UserError, match=r"there is no logger 'treckio'.*trackio"):
        small("report_to=[treckio]")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_logger_that_is_not_there_is_refused_before_the_first_step(tmp_path, monkeypatch, name):
    from transformers.integrations import integration_utils

    for known in ("tensorboard", "wandb", "trackio"):
        monkeypatch.setattr(integration_utils, f"is_{known}_available", lambda: False)
    study = Study.create(tmp_path / "s", {})
    with pytest.raises(
        UserError, match=rf"cannot report to {name}.*{name}.*Install that logger, or leave report_to"
    ):
        distill(small(f"report_to=[{name}]"), "opd", 0, study)
    assert not study.train_rows("opd", 0)


@pytest.mark.slow
def test_each_run_of_a_process_is_a_run_of_its_own_in_wandb(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    study = Study.create(tmp_path / "s", {})
    for arm in ("opd", "nca"):
        distill(small("training.steps=2", "report_to=[wandb]"), arm, 0, study)
    ends, written = time.monotonic() + 30, []
    while not (written and all(b"acc_xc" in each for each in written)) and time.monotonic() < ends:
        time.sleep(0.05)  # a process of W&B's own writes, on a busy machine a moment later
        written = [file.read_bytes() for file in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    assert len(written) == 2
    assert all(b"terms/KL(q_x || f)" in each and b"acc_xc" in each for each in written)
    assert [b"terms/KL(sg[q_x] || q_c)" in each for each in written].count(True) == 1


@pytest.mark.slow
def test_processes_killed_at_random_moments_end_with_the_same_bits(tmp_path):
    command = [sys.executable, "-m", "cr_interp", "distill", "organism-shift", *SMALL, "training.steps=16"]
    command += ["--arms", "nca", "--seeds", "0", "--in-process", "--resume", "--out"]
    ran_until([*command, str(tmp_path / "whole")], tmp_path / "log")
    kills = killed_on_its_way([*command, str(tmp_path / "killed")], tmp_path / "killed", "nca-s0", 16)
    assert kills >= 1
    name = "runs/nca-s0/checkpoint-16"
    assert_same(weights(tmp_path / "whole" / name), weights(tmp_path / "killed" / name))
    assert not list((tmp_path / "killed").rglob(".saving-*"))
    print(f"one process, killed {kills} times")


@pytest.mark.slow
@pytest.mark.parametrize(("arm", "poison"), [("opd", "student"), ("opd", "teacher")])
def test_nan_stops_before_the_update_and_keeps_the_last_checkpoint(arm, poison, tmp_path, monkeypatch):
    from transformers import TrainerCallback

    import training.run.distill

    pair = training.run.distill.load_pair

    def remember(config):
        found = pair(config)
        remembered.update(student=found[0].model, teacher=found[1].model)
        return found

    remembered = {}
    monkeypatch.setattr(training.run.distill, "load_pair", remember)

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 4:
                with torch.no_grad():
                    remembered[poison].model.norm.weight.fill_(float("nan"))

    study = Study.create(tmp_path / "s", {})
    with pytest.raises(UserError, match=r"Step 5: .*(nan|not finite).*first prompt.*checkpoint-4"):
        distill(small(), arm, 0, study, callbacks=[Poison()])
    assert all(torch.isfinite(v).all() for v in weights(latest_checkpoint(study.run_path("opd", 0))).values())


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch):
    study = Study.create(tmp_path / "s", {})
    original = DistillTrainer._save
    saved = []

    def full(self, output_dir=None, state_dict=None):
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(output_dir)
        original(self, output_dir, state_dict)

    monkeypatch.setattr(DistillTrainer, "_save", full)
    with pytest.raises(UserError, match=r"checkpoint of step 4.*No space left"):
        distill(small(), "opd", 0, study)
    run = study.run_path("opd", 0)
    assert [path.name for path in checkpoints(run)] == ["checkpoint-2"]
    assert not list(run.glob(".saving-*"))
    rows = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert max(r["step"] for r in rows if r["kind"] == "train") >= 3


def test_another_tokenizer_for_the_teacher_is_refused(tmp_path):
    from tiny import tiny

    other = tiny()
    other.tokenizer.chat_template = other.tokenizer.chat_template + " "
    other.model.save_pretrained(tmp_path / "t")
    other.tokenizer.save_pretrained(tmp_path / "t")
    with pytest.raises(UserError, match="different tokenizers"):
        distill(small(f"teacher={tmp_path / 't'}"), "opd", 0, Study.create(tmp_path / "s", {}))


@pytest.mark.slow
def test_two_processes_cannot_train_the_same_run(tmp_path, monkeypatch):
    from filelock import FileLock

    import training.run.distill

    monkeypatch.setattr(training.run.distill, "PATIENCE", 0.1)
    study = Study.create(tmp_path / "s", {})
    run = study.run_path("opd", 0)
    run.mkdir(parents=True)
    with FileLock(run / ".lock"), pytest.raises(UserError, match="Another process is training opd with seed 0"):
        distill(small(), "opd", 0, study)
    assert distill(small(), "opd", 0, study).name == "checkpoint-6"


@pytest.mark.slow
def test_a_run_that_is_not_finished_is_not_measured(tmp_path):
    from training.studies.pipeline import study_checkpoints

    config = small()
    study = Study.create(tmp_path / "s", {"model": config.model})
    distill(config, "opd", 0, study)
    longer = small("training.steps=8")
    assert [c[:3] for c in study_checkpoints(study, config)] == [("base", 0, 0), ("opd", 0, 6)]
    assert [c[:3] for c in study_checkpoints(study, longer)] == [("base", 0, 0)]
