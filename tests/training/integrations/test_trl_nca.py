"""NCA on TRL's trainer: on one batch its loss and gradients are those of our own objective, and a run does what it says."""

import pytest
import torch

pytest.importorskip("trl.experimental.sdft", reason="the extra `trl` is not installed")

from cr_interp.integrations.callback import watch
from cr_interp.integrations.trl import NCAConfig, NCATrainer
from datasets import Dataset
from steps import assert_close, gradients

from cr_interp.models.loading import Loaded
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table
from training.objectives import arm_terms
from training.run.noise import switch_dropout_off
from training.run.step import Prompt, Reader
from training.settings import Training

ROWS = [
    {"prompt": [{"role": "user", "content": word}], "privileged_context": f"hint {word[0]}, then {word[-1]}"}
    for word in ("abcd", "bc", "dacb", "cab")
]
TEMPLATE = "{privileged_context} {prompt}"


@pytest.fixture
def made(tiny_llama, tmp_path):
    """A trainer whose student has moved away from its teacher; options go to the configuration."""
    tiny_llama.model.save_pretrained(tmp_path / "model")
    tiny_llama.tokenizer.save_pretrained(tmp_path / "model")

    def make(apart=0.05, callbacks=(), **options):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
        args = NCAConfig(
            str(tmp_path / "out"),
            **{
                "per_device_train_batch_size": 4,
                "max_completion_length": 6,
                "max_steps": 2,
                "teacher_prompt_template": TEMPLATE,
                "report_to": "none",
                "use_cpu": True,
                "bf16": False,
                "disable_tqdm": True,
                "gradient_checkpointing": False,
                "logging_steps": 1,
                "save_strategy": "no",
                "learning_rate": 1e-3,
                **options,
            },
        )
        trainer = NCATrainer(
            model=model,
            args=args,
            train_dataset=Dataset.from_list(ROWS),
            callbacks=list(callbacks),
            processing_class=AutoTokenizer.from_pretrained(tmp_path / "model"),
        )
        with torch.no_grad():
            generator = torch.Generator().manual_seed(1)
            for parameter in model.parameters():
                parameter.add_(apart * torch.randn(parameter.shape, generator=generator))
        return trainer

    return make


def ours(trainer, inputs, top_k=None, arm="nca"):
    """Loss and gradients of our own step on the same ids."""
    lengths = inputs["completion_mask"].sum(1).tolist()

    def unpadded(ids, mask):
        return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]

    n = inputs["completion_ids"].shape[1]
    without = unpadded(inputs["prompt_ids"], inputs["prompt_mask"])
    given = unpadded(inputs["teacher_input_ids"][:, :-n], inputs["teacher_attention_mask"][:, :-n])
    responses = [row[:length].tolist() for row, length in zip(inputs["completion_ids"], lengths, strict=True)]
    student, teacher = (Loaded("t", each, trainer._tokenizer) for each in (trainer.model, trainer.teacher_model))
    switch_dropout_off(student.model)
    chosen = Training(reduction="sequence_mean", top_k=top_k)
    reader = Reader(student, teacher, arm_terms(arm), chosen, 0, 0)
    prompts = [Prompt("", x, c) for x, c in zip(without, given, strict=True)]
    trainer.model.zero_grad()
    total = reader.losses(student.model, prompts, responses).total
    total.backward()
    return float(total), gradients(trainer.model)


@pytest.mark.parametrize(("mode", "top_k"), [("full_logits", None), ("topk_logits", 8)])
def test_loss_and_gradients_are_ours_on_the_same_batch(mode, top_k, made):
    trainer = made(distillation_mode=mode, distillation_topk=top_k)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._prepare_inputs(ROWS)
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    theirs = gradients(trainer.model)
    expected, mine = ours(trainer, inputs, top_k)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert_close(theirs, mine, 1e-5)
    plain, of_opd = ours(trainer, inputs, top_k, "opd")
    assert abs(plain - expected) > 1e-3 * plain, "the anchor is something"
    trainer.args.nca_beta = 0.0
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    assert float(loss) == pytest.approx(plain, rel=1e-5)
    assert_close(gradients(trainer.model), of_opd, 1e-5)


def test_a_long_leading_context_is_whole(made):
    trainer = made()
    long = [{**ROWS[0], "privileged_context": "b" * 150}, *ROWS[1:]]
    inputs = trainer._prepare_training_batch(long)
    text = trainer._tokenizer.decode(inputs["teacher_input_ids"][0])
    assert text.count("b") >= 150


@pytest.mark.slow
def test_a_run_with_the_callback(made, tmp_path):
    """The journey of somebody who trains with TRL: the anchor and the readings in one log, and a study of it."""
    trainer = made(apart=0.0, max_steps=3, learning_rate=1e-2)
    views = watch(
        trainer,
        ROWS,
        template=TEMPLATE,
        every=1,
        max_new_tokens=6,
        study=tmp_path / "s",
        teacher=trainer.teacher_model,
    )
    trainer.train()
    composed = trainer.teacher_context_builder.select_generation_prompts(
        [row["prompt"] for row in ROWS], [row["privileged_context"] for row in ROWS]
    )
    asked = views._views.examples
    assert [each.without for each in asked] == trainer._tokenize_prompts([row["prompt"] for row in ROWS])
    assert [each.given for each in asked] == trainer._tokenize_prompts(composed)
    assert "changed" in set(metric_table(Study.open(tmp_path / "s"))["metric"]), "without a key, what needs none"
    history = trainer.state.log_history
    assert sum("nca/anchor" in row for row in history) == 3
    assert sum("cr_interp/invariance" in row for row in history) == 4
    assert not any("nca/anchor" in row and "cr_interp/invariance" in row for row in history)
    assert views.readings[0]["fidelity"] == pytest.approx(views.readings[0]["invariance"], rel=1e-4)
    assert views.readings[-1]["fidelity"] != pytest.approx(views.readings[-1]["invariance"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_prompt_length": 512}, "drop a leading context"),
        ({"nca_beta": -1.0}, "at least 0"),
        ({"distillation_mode": "sampled_token"}, "exact KL"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        NCAConfig(str(tmp_path), use_cpu=True, report_to="none", bf16=False, **options)
