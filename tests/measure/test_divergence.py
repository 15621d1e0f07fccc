"""Fidelity and invariance against KL divergences that are worked out whole, sequence by sequence."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.measure.divergence import Own, Teacher, check_teacher, rows
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject
from cr_interp.tables.divergence import divergence_metrics
from cr_interp.tasks import get_task
from cr_interp.views import render


@pytest.fixture(scope="module")
def case():
    student, teacher = tiny(seed=0), tiny(seed=1)
    subject = Subject.of(
        get_task("rules:shift"), student.tokenizer, "empty_system", Evaluation(examples=5, batch_size=2)
    )
    answers = {each.id: [5 + i, 9, 4][: 1 + i % 3] for i, each in enumerate(subject.examples)}
    return student, teacher, subject, answers


@torch.no_grad()
def log_p(loaded, prompt: list[int], answer: list[int]) -> np.ndarray:
    logits = loaded.model(torch.tensor([prompt + answer])).logits[0].double()
    return logits[len(prompt) - 1 : len(prompt) + len(answer) - 1].log_softmax(-1).numpy()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((np.exp(p) * (p - q)).sum(1).mean())


def test_the_rows_are_whole_divergences(case):
    student, teacher, subject, answers = case
    table = rows(Own(student, subject, answers, {}, teacher))["divergence"].set_index(["control", "example_id"])
    for example in subject.examples:
        ids = answers[example.id]
        x = log_p(student, render(student.tokenizer, example.prompt), ids)
        for control, context in subject.contexts.items():
            prompt = render(student.tokenizer, example.prompt, context)
            row = table.loc[(control, example.id)]
            assert row["n_tokens"] == len(ids)
            assert row["invariance"] == pytest.approx(kl(x, log_p(student, prompt, ids)), rel=1e-4, abs=1e-6)
            if control == "exact":
                assert row["fidelity"] == pytest.approx(kl(x, log_p(teacher, prompt, ids)), rel=1e-4)
            else:
                assert np.isnan(row["fidelity"])


def test_of_the_teacher_itself_fidelity_is_invariance_and_without_one_there_is_none(case):
    student, _, subject, answers = case
    own = rows(Own(student, subject, answers, {}, student))["divergence"].query("control == 'exact'")
    assert (own["fidelity"] == own["invariance"]).all()
    assert rows(Own(student, subject, answers, {}))["divergence"]["fidelity"].isna().all()


def test_the_turns_of_an_episode_add_up(case):
    """Two turns of one token each, read behind their own prompts, are the mean of two examples."""
    student, _, subject, _ = case
    first, second = subject.examples[:2]
    one = rows(Own(student, subject, {first.id: [5], second.id: [9]}, {}))["divergence"]
    turns = {first.id: [(first.prompt, 1), (second.prompt, 1)]}
    both = rows(Own(student, subject, {first.id: [5, 9]}, turns))["divergence"]
    of = [frame.query("control == 'exact'")["invariance"] for frame in (one, both)]
    assert of[1].item() == pytest.approx(of[0].mean(), rel=1e-5)
    assert both["n_tokens"].tolist() == [2] * len(both)


def test_a_teacher_with_other_tokens_is_refused(case):
    student, teacher, *_ = case
    check_teacher(student, teacher)
    other = tiny(seed=2)
    other.tokenizer.chat_template += " "
    with pytest.raises(UserError, match="another tokenizer or chat template"):
        check_teacher(student, other)
    wider = tiny(seed=2)
    wider.model.resize_token_embeddings(wider.model.config.vocab_size + 8)
    with pytest.raises(UserError, match="rows, so their distributions"):
        check_teacher(student, wider)


def test_a_teacher_is_loaded_once_and_not_beside_itself():
    opened = []
    teachers = Teacher(lambda name: opened.append(name) or name, "t")
    assert teachers.known("t") is None
    assert [teachers.of("a", "a"), teachers.of("b", "b"), teachers.known("t")] == ["t"] * 3
    assert opened == ["t"]
    itself = Teacher(lambda name: pytest.fail(name), "a")
    assert itself.of("loaded a", "a") == itself.of("b", "b") == "loaded a"
    assert Teacher(lambda name: pytest.fail(name), None).of("a", "a") is None


def example_rows(arm: str, seed: int, invariance: list[float], tokens: list[int]) -> pd.DataFrame:
    names = [f"e{i}" for i in range(len(tokens))]
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "step": 5,
            "example_id": names,
            "cluster": names,
            "control": "exact",
            "n_tokens": tokens,
            "fidelity": np.nan,
            "invariance": invariance,
        }
    )


def test_a_metric_is_nats_over_tokens():
    table = divergence_metrics(
        pd.concat(
            [
                example_rows("opd", 0, [1.0, 0.1, 0.2], [1, 3, 4]),
                example_rows("opd", 1, [0.4, 0.4, 0.5], [2, 2, 2]),
                example_rows("opd", 1, [9.0, 9.0, 9.0], [2, 2, 2]).assign(
                    step=1
                ),  # an earlier step does not count
                example_rows("opd", 0, [7.0] * 3, [1] * 3).assign(control="irrelevant"),
            ]
        )
    )
    assert set(table["metric"]) == {"invariance"}, "without a teacher no fidelity"
    by_seed = table.set_index("seed")["estimate"]
    assert by_seed[0] == pytest.approx((1.0 + 0.3 + 0.8) / 8)
    assert by_seed[1] == pytest.approx(1.3 / 3)
    over = table[table["seed"].isna()].iloc[0]
    assert over["estimate"] == pytest.approx(((2.1 / 8) + 1.3 / 3) / 2)
    assert (over["interval"], over["n"]) == ("across", 6)
    assert 0 <= over["low"] < over["estimate"] < over["high"]


def test_one_cluster_varies_nowhere():
    table = divergence_metrics(example_rows("base", 0, [0.3], [4]))
    assert table["estimate"].tolist() == pytest.approx([0.3, 0.3])
    assert table[["low", "high"]].isna().all(axis=None)
