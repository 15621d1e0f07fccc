"""A step in micro-batches is the step: one rollout, one mean over all its tokens, the same gradient."""

import pytest
import torch
from safetensors.torch import load_file
from steps import assert_close, batch, gradients, pair, reader, step
from test_trainer import small
from transformers import TrainerCallback

from cr_interp.errors import UserError
from cr_interp.study.study import Study
from training.run.distill import distill
from training.run.losses import Whole
from training.settings import load_config


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("options", [{}, {"top_k": 8, "chunk": 5}, {"chunk": 5}])
@pytest.mark.parametrize("size", [1, 2])
def test_shares_of_micro_batches_add_up_to_the_step(reduction, options, size):
    student, teacher = pair()
    prompts, responses = batch()
    assert len({len(r) for r in responses}) > 1  # or a mean of means would pass
    made = reader(student, teacher, "nca", reduction=reduction, **options)
    expected, wanted = step(made, prompts, responses)
    whole = Whole.of(responses)
    parts = []
    for start in range(0, len(prompts), size):
        rows = slice(start, start + size)
        parts.append(made.losses(student.model, prompts[rows], responses[rows], whole))
        parts[-1].total.backward()
    assert sum(part.total.item() for part in parts) == pytest.approx(expected.total.item(), rel=1e-5)
    for name, value in expected.terms.items():
        assert sum(part.terms[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-5)
    assert_close(gradients(student.model), wanted)


def rows(study, arm="nca"):
    return [row for row in study.train_rows(arm, 0) if row["kind"] == "train"]


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_a_run_in_micro_batches_logs_the_same_step(tmp_path, reduction):
    found = {}
    for size in (8, 2):
        study = Study.create(tmp_path / str(size), {})
        distill(
            small(f"training.micro_batch={size}", f"training.reduction={reduction}", "steps=2"), "nca", 0, study
        )
        found[size] = rows(study)
    assert [row["step"] for row in found[2]] == [1, 2]
    for whole, parts in zip(found[8], found[2], strict=True):
        # AdamW divides by the gradient's size, so rounding shows in the second step's weights.
        tolerance = 1e-5 if whole["step"] == 1 else 1e-2
        for name in ("loss", "grad_norm"):
            assert parts[name] == pytest.approx(whole[name], rel=tolerance)
        assert parts["terms"] == pytest.approx(whole["terms"], rel=tolerance)
        assert parts["topk_mass"] == {"q_x": 1, "q_c": 1, "f": 1}  # exactly, or it would be drawn as a curve
    assert found[8][0]["response_tokens"] == found[2][0]["response_tokens"]


@pytest.mark.slow
def test_the_support_s_mass_is_a_mean_over_all_tokens_of_the_step(tmp_path):
    found = {}
    for size in (8, 2):
        study = Study.create(tmp_path / str(size), {})
        distill(small(f"training.micro_batch={size}", "top_k=3", "steps=1"), "nca", 0, study)
        found[size] = rows(study)[0]["topk_mass"]
    assert all(0 < mass < 1 for mass in found[8].values())
    assert found[2] == pytest.approx(found[8], rel=1e-5)


@pytest.mark.slow
def test_a_run_in_micro_batches_resumes_with_the_same_bits(tmp_path):
    options = ["training.micro_batch=4", "training.gradient_checkpointing=true", "training.top_k=8", "chunk=16"]
    final = distill(small(*options), "nca", 0, Study.create(tmp_path / "whole", {}))

    class Stop(Exception):
        pass

    class Killer(TrainerCallback):
        def on_substep_end(self, args, state, control, **kwargs):
            if state.global_step == 5:  # between two micro-batches
                raise Stop

    parts = Study.create(tmp_path / "parts", {})
    with pytest.raises(Stop):
        distill(small(*options), "nca", 0, parts, callbacks=[Killer()])
    again = distill(small(*options), "nca", 0, parts)
    first, second = (load_file(folder / "model.safetensors") for folder in (final, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_micro_batches_have_to_make_a_batch():
    with pytest.raises(UserError, match=r"training\.micro_batch.*divide batch_size, which is 8 \(found 3\)"):
        small("training.micro_batch=3")
    assert load_config("organism-shift", ["micro_batch=16"]).training.micro_batch == 16
