"""Playing tasks with turns: who takes which turn, with which random numbers, and what becomes a row."""

import pytest
import torch
from games import Guess
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.measure.compare import compare_checkpoints
from cr_interp.measure.drift import measure_drift
from cr_interp.measure.evaluate import evaluate
from cr_interp.measure.settings import Evaluation
from cr_interp.measure.subject import Subject, own_responses, own_turns
from cr_interp.measure.turns import as_turns, places, play
from cr_interp.models.generation import Response, generate
from cr_interp.tasks.base import TakesTurns, Task
from cr_interp.tasks.games.transcript import turns_of
from cr_interp.tasks.organisms.rules import rules_task
from cr_interp.views import render
from cr_interp.vocabulary import OUTCOMES


def played(answers, **options):
    """Play the first three letters by a text for each (row, turn); also what was asked."""
    asked = []

    def sample(prompts, rows, turn):
        asked.append((turn, rows, ["".join(map(chr, prompt)) for prompt in prompts]))
        return [Response(tuple(map(ord, answers[row][turn])), truncated=False) for row in rows]

    task = Guess(**options)
    made = play(
        task,
        task.examples("test", 3),
        lambda text, row: list(map(ord, text)),
        sample,
        lambda response: "".join(map(chr, response.ids)),
    )
    return made, asked


def test_unfinished_episodes_take_their_turn_together():
    made, asked = played(["a", "xqx", "xyz"])
    assert [episode.outcome for episode in made] == ["right", "wrong", "wrong"]
    assert [len(episode.turns) for episode in made] == [1, 2, 3]
    assert [(turn, rows) for turn, rows, _ in asked] == [(0, [0, 1, 2]), (1, [1, 2]), (2, [2])]
    assert asked[2][2] == ["Guess:\nnot x\nnot y"]


def test_the_last_turn_can_win_and_there_is_none_after_it():
    made, asked = played(["xya", "xyb", "xyz"])
    assert [episode.outcome for episode in made] == ["right", "right", "wrong"]
    assert len(asked) == 3
    assert len(played(["x"] * 3, max_turns=1)[1]) == 1


def test_no_two_turns_of_a_batch_share_their_random_numbers():
    used = [place for turn in range(5) for place in places(range(8), turn, 8)]
    assert sorted(used) == list(range(40))
    assert places([3, 1], 0, 8) == [3, 1]


def test_a_question_is_an_episode_of_one_turn():
    task = rules_task("shift")
    assert isinstance(task, Task)
    assert not isinstance(task, TakesTurns)
    example = task.examples("test", 1)[0]
    episode = as_turns(task).start(example)
    assert episode.prompt == example.prompt
    episode.act(example.answer, truncated=False)
    assert (episode.done, episode.outcome) == (True, "right")


@pytest.fixture(scope="module")
def loaded():
    return tiny("llama")


@pytest.fixture(scope="module")
def rows(loaded):
    return evaluated(loaded, Guess().examples("test"))


def evaluated(loaded, examples, **options):
    task = Guess()
    return evaluate(loaded, task, examples, task.contexts(len), temperature=1.0, samples=2, **options)


def test_an_episode_is_a_row(rows, loaded):
    assert len(rows) == 8 * 3 * 2
    assert set(rows["outcome"]) <= set(OUTCOMES)
    assert set(rows["prompt"]) == {"Guess:"}
    assert set(rows["control"]) == {"none", "exact", "irrelevant"}
    for row in rows.itertuples():
        assert sum(row.turn_tokens) == row.n_tokens == len(row.response_ids)
        said = turns_of(row.response)
        assert len(said) == len(row.turn_tokens) == len(row.turn_prompts) == 3
        assert row.turn_prompts[2] == f"Guess:\nnot {said[0]}\nnot {said[1]}"
        start = 0
        for text, tokens in zip(said, row.turn_tokens, strict=True):
            ids = row.response_ids[start : start + tokens]
            assert loaded.tokenizer.decode(ids, skip_special_tokens=True) == text
            start += tokens


def test_every_view_plays_its_own_game(rows):
    by_view = rows.pivot(index=["example_id", "sample"], columns="control", values="response")
    assert (by_view["none"] != by_view["exact"]).any()


def test_evaluation_repeats_itself_and_does_not_depend_on_batches(rows, loaded):
    again = evaluated(loaded, Guess().examples("test"), batch_size=3)
    assert again["response_ids"].tolist() == rows["response_ids"].tolist()


def test_states_are_read_at_every_turn_and_the_episode_is_the_unit(rows, loaded):
    task = Guess()
    subject = Subject.of(task, loaded.tokenizer, "empty_system", Evaluation(examples=8, batch_size=7))
    answers, turns = own_responses(rows), own_turns(rows)
    found = measure_drift(loaded, subject, answers, turns=turns)
    tokens = sum(map(len, answers.values()))
    exact = found.drift[found.drift["control"] == "exact"]
    assert set(exact["n_examples"]) == {8}
    assert exact["n_tokens"].max() == tokens
    per_token = found.token_drift[found.token_drift["site"] == "output"]
    assert len(per_token) == tokens
    for name, ids in answers.items():
        mine = per_token[per_token["example_id"] == name].sort_values("position")
        assert mine["position"].tolist() == list(range(len(ids)))
        assert mine["token"].tolist() == [loaded.tokenizer.decode([i]) for i in ids]


def test_the_states_of_a_turn_are_those_behind_its_own_prompt(rows, loaded):
    """One episode by hand: the output's KL at the second turn's first token."""
    task = Guess()
    subject = Subject.of(task, loaded.tokenizer, "empty_system", Evaluation(examples=8))
    answers, turns = own_responses(rows), own_turns(rows)
    found = measure_drift(loaded, subject, answers, turns=turns).token_drift
    name = subject.examples[5].id
    prompt, first = turns[name][1][0], turns[name][0][1]
    log_p = []
    for context in (None, subject.contexts["exact"]):
        ids = render(loaded.tokenizer, prompt, context)
        with torch.no_grad():
            log_p.append(loaded.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1))
    expected = (log_p[0].exp() * (log_p[0] - log_p[1])).sum().item()
    row = found[(found["site"] == "output") & (found["example_id"] == name) & (found["position"] == first)]
    assert row["kl"].item() == pytest.approx(expected, rel=1e-4)


def test_checkpoints_of_ones_own_are_compared_on_a_game(loaded, tmp_path):
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    task = tmp_path / "guess.py"
    task.write_text("from games import Guess\n\n\ndef task():\n    return Guess()\n")
    study = compare_checkpoints([f"base={tmp_path / 'model'}"], tmp_path / "study", str(task), examples=6)
    rows = study.table("generations")
    assert set(own_turns(rows)) == {f"test:{letter}" for letter in "abcdef"}
    tokens = rows.loc[rows["view"] == "no_context", "n_tokens"].sum()
    assert (study.table("token_drift")["site"] == "output").sum() == tokens


def test_the_first_turn_draws_what_a_single_question_would(rows, loaded):
    """So tasks of one turn keep their bits."""
    from zlib import crc32

    from cr_interp.models.generation import Decoding, noise

    prompts = [render(loaded.tokenizer, "Guess:") for _ in range(8)]
    alone = generate(loaded, prompts, Decoding(4, 1.0), noise(crc32(b"0 none 0"), range(8), 4))
    mine = rows[(rows["control"] == "none") & (rows["sample"] == 0)]
    for row, response in zip(mine.itertuples(), alone, strict=True):
        assert tuple(row.response_ids[: row.turn_tokens[0]]) == response.ids


@pytest.mark.parametrize("grade", [None, True, "Right", "", 1.0, ["right"]])
def test_a_grade_that_is_none_of_the_four_outcomes_is_refused(grade, monkeypatch):
    monkeypatch.setattr(type(rules_task("shift")), "grade", lambda *_: grade)
    task = rules_task("shift")
    examples = task.examples("test", 1)
    with pytest.raises(UserError, match=rf"{examples[0].id}.*one of the texts right, wrong"):
        play(
            as_turns(task),
            examples,
            lambda text, row: [1],
            lambda *_: [Response((2,), False)],
            lambda response: "x",
        )
