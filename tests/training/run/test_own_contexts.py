"""Contexts of each example through training and all that is measured, on the bundled organism and its hints."""

import json

import pytest
import torch
from tiny import tiny

from cr_interp.mechanism.explain import explain
from cr_interp.models.forward import build_view, hidden_states, log_probs
from cr_interp.study.questions import context_of, contexts, examples
from cr_interp.tables.metrics import metric_table
from cr_interp.tasks import get_task
from cr_interp.views import Context, EachOwn
from training.objectives import arm_terms
from training.run.distill import distill
from training.run.step import Prompt, Reader
from training.settings import StudyConfig, Training
from training.studies.pipeline import capture_study, close, evaluate_study, open_or_create


def test_a_step_with_grouped_contexts_is_the_step_without():
    """Two hints, two rollouts behind each: grouped or not, the same losses and gradients."""
    student, teacher = tiny(seed=0), tiny(seed=1)
    hints = [list(range(5, 45)), list(range(44, 4, -1))]
    batch = [Prompt("", [5, 6, i], [*hints[i % 2], i]) for i in range(4)]
    responses = [[7, 1], [8], [9, 4, 1], [3]]

    def step(share: bool):
        student.model.zero_grad()
        config = Training(steps=1, batch_size=4, share_prefix=share)
        result = Reader(student, teacher, arm_terms("nca"), config, 0, 0).losses(student.model, batch, responses)
        result.total.backward()
        return result, [p.grad.clone() for p in student.model.parameters() if p.grad is not None]

    (one, grads), (other, others) = step(True), step(False)
    assert one.total.item() == pytest.approx(other.total.item(), rel=1e-5)
    for a, b in zip(grads, others, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    with torch.no_grad():  # the distributions behind each prompt's own hint, one sequence at a time
        values = []
        for prompt, said in zip(batch, responses, strict=True):
            x, f = (
                log_probs(model, hidden_states(model, build_view([ids], [said], 0, 0)))
                for model, ids in ((student.model, prompt.no_context), (teacher.model, prompt.with_context))
            )
            values.append((x.exp() * (x - f)).sum(-1))
    assert one.terms["KL(q_x || f)"].item() == pytest.approx(torch.cat(values).mean().item(), rel=1e-4)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A few steps on hints, evaluated and captured in this process."""
    torch.set_num_threads(1)
    config = StudyConfig.model_validate(
        {
            "name": "hints",
            "task": "hints:A",
            "model": "builtin:organism-llama",
            "arms": ["opd"],
            "seeds": [0],
            "training": {
                "steps": 6,
                "batch_size": 8,
                "lr": 1e-3,
                "eval_every": 6,
                "eval_examples": 4,
                "save_every": 6,
            },
            "evaluation": {"examples": 8, "permutations": 0},
        }
    )
    path = tmp_path_factory.mktemp("studies") / "hints"
    made = open_or_create(config, path)
    distill(config, "opd", 0, made)
    return close(capture_study(evaluate_study(made, config), config), config)


@pytest.mark.slow
def test_a_study_of_hints(study):
    assert study.manifest["context"] == {"each": "hint of hints:A"}
    rows = study.table("generations").query("arm == 'opd'")
    task = get_task("hints:A")
    of = {each.id: each for each in task.examples("test", 8)}
    for row in rows[rows["control"] == "exact"].itertuples():
        assert Context.from_dict(json.loads(row.before)) == of[row.example_id].context
    assert set(rows.loc[rows["control"] == "none", "before"]) == {""}
    table = metric_table(study)
    assert {"harm", "fidelity", "invariance", "new_instruction", "min_cosine"} <= set(table["metric"])
    base = table[(table["arm"] == "base") & table["seed"].isna()].set_index("metric")["estimate"]
    assert base["acc_xc"] > 0.7  # it reads the hints
    assert base["fidelity"] == base["invariance"] > 0.5
    drift = study.table("drift")
    assert {"exact", "paraphrase", "mismatched", "irrelevant"} <= set(drift["control"])


@pytest.mark.slow
def test_what_is_asked_again_has_its_own_context(study):
    given = contexts(study)
    assert set(given) == {"exact", "paraphrase", "mismatched", "irrelevant"}
    assert all(isinstance(each, EachOwn) for each in given.values())
    asked = examples(study)
    assert len({str(context_of(study, "exact", each)) for each in asked}) == 8
    assert context_of(study, "exact", None) is None
    explained = explain(study, ["patching"], arms=["base"])
    assert len(explained.table("patching"))


@pytest.mark.slow
def test_a_description_with_hints_and_no_key_is_trained_on(tmp_path):
    """Rows with a hint each, no grader: two steps, and a study that has what needs no key."""
    for split, n in (("train", 24), ("test", 4)):
        rows = [{"prompt": f"{split} {i}", "hint": "ab" * (1 + i % 3) + str(i)} for i in range(n)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        "name: hinted\ntrain: {dataset: train.jsonl}\ntest: {dataset: test.jsonl}\ncolumns: {answer: null}\n"
        "validation: 0.3\ncontext: {each: 'hint: {hint}'}\nmax_new_tokens: 4\n"
    )
    config = StudyConfig.model_validate(
        {
            "name": "hinted",
            "task": str(tmp_path / "task.yaml"),
            "model": "builtin:organism-llama",
            "arms": ["nca"],
            "seeds": [0],
            "evaluation": {"examples": 4, "permutations": 0},
            "training": {"steps": 2, "batch_size": 4, "eval_every": 2, "eval_examples": 2, "save_every": 2},
        }
    )
    made = open_or_create(config, tmp_path / "study")
    distill(config, "nca", 0, made)
    study = close(evaluate_study(made, config), config)
    rows = study.table("generations")
    assert set(rows["outcome"]) == {"ungraded"}
    assert set(rows["control"]) == {"none", "exact", "mismatched", "irrelevant"}
    assert set(metric_table(study)["metric"]) == {"changed", "agreement", "delta_len", "fidelity", "invariance"}
    logged = [row for row in study.train_rows("nca", 0) if row["kind"] == "eval"]
    assert {"changed", "agreement", "delta_len"} <= set(logged[-1])
