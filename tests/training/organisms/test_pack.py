"""A lesson of k questions is exactly k separate examples."""

import random

import pytest
import torch

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.games.frozenlake import frozenlake
from cr_interp.tasks.games.grids import canonical, shortest_path, walk
from cr_interp.tasks.games.sokoban import practice_board, sokoban
from cr_interp.tasks.splits import split_of
from cr_interp.views import Context, render
from training.organisms import ORGANISMS, pretrain
from training.organisms.curriculum import SHARES, SUBJECTS, Lesson, draw_lesson
from training.organisms.organism import build_config, build_tokenizer
from training.organisms.pack import IGNORED, pack
from training.organisms.pretrain import PretrainConfig, backward, batches, loss_of, optimizers

TOKENIZER = build_tokenizer()


def random_model(organism):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_config(build_config(organism, len(TOKENIZER))).eval()


def lessons():
    rng = random.Random(5)
    drawn = [draw_lesson(rng, 3, hidden) for hidden in (0.0,) * 5 + (1.0,) * 5]
    assert {lesson.context is None for lesson in drawn} == {True, False}
    return drawn


@pytest.mark.parametrize("organism", ORGANISMS)
def test_the_packed_loss_is_that_of_separate_sequences(organism):
    model = random_model(organism)
    total = count = 0
    with torch.no_grad():
        for lesson in lessons():
            for turn in lesson.turns:
                prompt, answer = turn.prompt, turn.answer
                context = Context.system(lesson.context) if lesson.context else None
                asked = render(TOKENIZER, prompt, context)
                answered = [*TOKENIZER(answer)["input_ids"], TOKENIZER.eos_token_id]
                logits = model(input_ids=torch.tensor([asked + answered])).logits[0, len(asked) - 1 : -1]
                total += torch.nn.functional.cross_entropy(logits, torch.tensor(answered), reduction="sum").item()
                count += len(answered)
        packed = loss_of(model, pack(TOKENIZER, lessons()))
    assert (pack(TOKENIZER, lessons()).labels != IGNORED).sum() == count
    assert packed.item() == pytest.approx(total / count, rel=2e-5)


def test_notes_label_each_cell_with_its_role_where_a_legend_was_told():
    rng = random.Random(0)
    told = draw_lesson(rng, 2, 0.0, {"frozenlake": 1.0})
    hidden = draw_lesson(rng, 2, 1.0, {"frozenlake": 1.0})
    plain, noted = (pack(TOKENIZER, [told, hidden], notes) for notes in (False, True))
    more = (noted.labels != IGNORED) & (plain.labels == IGNORED)
    assert torch.equal(noted.labels[~more], plain.labels[~more])
    assert more[0].sum() == 2 * 9  # the cells of two boards
    assert more[1].sum() == 0
    meaning = dict(zip(noted.ids[more].tolist(), noted.labels[more].tolist(), strict=True))
    signs = {TOKENIZER.decode([sign]): TOKENIZER.decode([role]) for sign, role in meaning.items()}
    assert sorted(signs.values()) == sorted("SGHF")
    for sign, role in signs.items():
        assert any(f"{role}{between}{sign}" in told.context for between in ("=", ":", ""))


def test_packing_saves_tokens():
    together = pack(TOKENIZER, lessons()).ids.numel()
    apart = pack(
        TOKENIZER, [Lesson(lesson.context, (turn,)) for lesson in lessons() for turn in lesson.turns]
    ).ids.numel()
    assert together < 0.75 * apart


@pytest.mark.parametrize("family", SHARES)
def test_lessons_can_be_answered_from_their_context_alone(family):
    """With any instruction: the answers are those that the task's grader accepts for that instruction."""
    rng = random.Random(1)
    subject = SUBJECTS[family]
    for name in ("A", "B"):
        task = get_task(f"{family}:{'shift' if family == 'rules' else name}")
        instruction = task.rule if family == "rules" else task.table if family == "codebook" else task.legend
        told = task.contexts(lambda context: 1)["exact"].messages[0]["content"]
        assert told in {subject.tell(rng, instruction) for _ in range(60)}
        for _ in range(20):
            turn = subject.turn(rng, instruction)
            prompt, answer = turn.prompt, turn.answer
            from cr_interp.tasks.base import Example

            expected = task.examples("train", 1)[0].answer if family != "rules" else ""
            example = Example("x", prompt, answer if family in ("rules", "codebook") else expected)
            assert task.grade(example, answer, False) == "right"


def test_hidden_lessons_mix_the_named_instructions():
    rng = random.Random(0)
    drawn = [draw_lesson(rng, 8, 1.0, {"codebook": 1.0}) for _ in range(40)]
    assert 0.15 < sum(lesson.context is not None for lesson in drawn) / 40 < 0.45
    contexts = " ".join(lesson.context or "" for lesson in drawn)
    assert "=" not in contexts
    assert ":" not in contexts
    firsts = {turn.answer[0] for lesson in drawn for turn in lesson.turns if turn.prompt[0] == "0"}
    books = {get_task(f"codebook:{name}").table["0"] for name in "ABCDEFGH"}
    assert firsts == books


def test_test_boards_and_strings_are_never_shown():
    rng = random.Random(0)
    train = set(frozenlake().by_split["train"])
    for _ in range(50):
        legend = frozenlake().random_legend(rng)
        prompt = SUBJECTS["frozenlake"].turn(rng, legend).prompt
        assert prompt.translate(str.maketrans(legend.glyphs, legend.roles)) in train
        assert split_of(SUBJECTS["codebook"].turn(rng, get_task("codebook:A").table).prompt) == "train"


def test_a_step_lowers_the_loss_and_the_data_depends_on_the_seed_alone():
    config = PretrainConfig(rows=4, turns=2, steps=10)
    model = random_model("llama")
    batch = next(batches(TOKENIZER, config))[0]
    torch.testing.assert_close(batch.ids, next(batches(TOKENIZER, config))[0].ids)
    other = next(batches(TOKENIZER, config.model_copy(update={"seed": 1})))[0].ids
    assert other.shape != batch.ids.shape or not torch.equal(other, batch.ids)
    chosen = optimizers(model, config)
    seen = [parameter for each in chosen for group in each.param_groups for parameter in group["params"]]
    assert len(seen) == len(list(model.parameters()))
    before = loss_of(model, batch)
    for _ in range(5):
        loss_of(model, batch).backward()
        for each in chosen:
            each.step()
            each.zero_grad()
    assert loss_of(model, batch) < before


@pytest.mark.parametrize("organism", ORGANISMS)
def test_sizes(organism):
    parameters = sum(p.numel() for p in random_model(organism).parameters())
    assert parameters * 2 <= 4e6  # float16 on disk
    small = sum(p.numel() for p in random_model("llama").parameters())
    if organism.endswith("-large"):
        assert 2 <= parameters / small <= 3
    else:
        assert 0.9 < parameters / small < 1.1


def test_a_step_in_parts_has_the_gradient_of_one_in_one_piece():
    rng = random.Random(3)
    drawn = [draw_lesson(rng, 2, 0.3) for _ in range(9)]
    model = random_model("qwen3")
    loss_of(model, pack(TOKENIZER, drawn)).backward()
    whole = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    backward(model, [pack(TOKENIZER, part) for part in (drawn[:2], drawn[2:6], drawn[6:])])
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-3, atol=1e-6, msg=name)


def test_no_practice_board_is_held_out():
    rng = random.Random(0)
    drawn = [practice_board(rng) for _ in range(300)]
    assert {split_of(canonical(board)) for board in drawn} == {"train"}
    assert {board.count("W") for board in drawn} == {0, 1, 2}
    assert all(walk(sokoban(), board, shortest_path(sokoban, board)) for board in drawn)


@pytest.mark.slow
def test_a_stopped_pre_training_ends_in_the_same_weights(tmp_path, monkeypatch):
    """Also when it was stopped between two states: the steps since then are done again."""
    config = PretrainConfig(rows=4, turns=1, steps=7)
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 2)
    pretrain.pretrain(config, tmp_path / "whole")
    original, steps = pretrain.backward, []

    def stops_at_the_sixth(model, batch):
        steps.append(0)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return original(model, batch)

    monkeypatch.setattr(pretrain, "backward", stops_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(config, tmp_path / "stopped")
    assert (tmp_path / "stopped/pretraining.safetensors").is_file()
    with pytest.raises(UserError, match="another configuration"):
        pretrain.pretrain(config.model_copy(update={"seed": 1}), tmp_path / "stopped")
    monkeypatch.setattr(pretrain, "backward", original)
    pretrain.pretrain(config, tmp_path / "stopped")
    whole, stopped = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped
    assert not (tmp_path / "stopped/pretraining.safetensors").exists()
