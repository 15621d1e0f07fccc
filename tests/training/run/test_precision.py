"""bfloat16 products, float32 losses: near the float32 step, and weights that are trained stay float32."""

import pytest
import torch
from safetensors.torch import load_file
from steps import batch, pair, reader, step
from test_trainer import small

from cr_interp.models.forward import build_view
from cr_interp.models.loading import load
from cr_interp.study.study import Study
from training.run.distill import distill, load_pair
from training.run.precision import precision


@pytest.mark.parametrize("options", [{}, {"top_k": 8, "chunk": 5}, {"chunk": 5}])
def test_a_step_is_near_the_float32_one_and_its_losses_are_float32(options):
    student, teacher = pair()
    prompts, responses = batch()
    exact, grads = step(reader(student, teacher, "nca", **options), prompts, responses)
    rounded, near = step(reader(student, teacher, "nca", bf16=True, **options), prompts, responses)
    assert rounded.total.dtype == torch.float32
    assert not torch.equal(rounded.total, exact.total)
    assert rounded.total.item() == pytest.approx(exact.total.item(), rel=0.05)
    assert {g.dtype for g in near.values()} == {torch.float32}
    error = sum((near[name] - g).square().sum() for name, g in grads.items()).sqrt()
    assert error < 0.2 * sum(g.square().sum() for g in grads.values()).sqrt()


def test_log_probabilities_are_float32():
    student, teacher = pair()
    prompts, responses = batch()
    made = reader(student, teacher, "nca", bf16=True)
    x = build_view([p.no_context for p in prompts], responses, 0, made.prefix_x)
    with precision(True, student.model):
        for _, source in made._sources(student.model, x, prompts, responses):
            log_p = source.log_probs(1.0)
            assert log_p.dtype == torch.float32
            torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(len(log_p)), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_what_is_not_trained_is_held_in_bfloat16(tmp_path):
    student, teacher = load_pair(small("training.bf16=true"))
    assert (student.model.dtype, teacher.model.dtype) == (torch.float32, torch.bfloat16)
    final = distill(small("training.bf16=true", "steps=2"), "nca", 0, Study.create(tmp_path / "s", {}))
    assert {tensor.dtype for tensor in load_file(final / "model.safetensors").values()} == {torch.float32}


@pytest.mark.slow
def test_with_an_adapter_the_base_is_held_in_bfloat16(tmp_path):
    pytest.importorskip("peft")
    options = ["training.bf16=true", "training.lora.rank=4", "steps=2"]
    student, teacher = load_pair(small(*options))
    assert teacher is student
    assert student.model.dtype == torch.bfloat16
    final = distill(small(*options), "nca", 0, Study.create(tmp_path / "s", {}))
    assert {tensor.dtype for tensor in load_file(final / "adapter_model.safetensors").values()} == {torch.float32}
    assert load(str(final)).model.dtype == torch.float32  # evaluated in float32: the base is known to be the same
