"""The paper's settings end to end, as far as a machine without GPU and network can: each configuration as it is but for a
tiny random model of the same family, stand-in rows in the hub's schema, and two steps."""

import importlib.util

import pytest
from stand_in import stand_in
from tiny import piece_tokenizer

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.yours.described import PUBLISHED
from cr_interp.vocabulary import OUTCOMES
from training.planning.architecture import architecture_of
from training.run.distill import distill
from training.settings import config_names, load_config
from training.studies.pipeline import capture_study, evaluate_study, open_or_create

SETTINGS = [
    name for name in config_names() if name.startswith("paper/") and load_config(name).task.startswith("hub:")
]
GAMES = [name for name in config_names() if name.startswith("paper/") and "textarena:" in load_config(name).task]
TOKENS = 3
SMALL = [
    "seeds=[0]",
    "arms=[opd,nca]",
    f"max_new_tokens={TOKENS}",
    "training.steps=2",
    "training.batch_size=3",
    "training.top_k=16",
    "training.eval_every=2",
    "training.eval_examples=1",
    "evaluation.examples=4",
    "evaluation.permutations=9",
]


@pytest.fixture(scope="module")
def tiny_family(tmp_path_factory):
    """Folder of a random model as a published one is built (family, tied weights), with a tokenizer that knows the words of the
    games and of the bundled descriptions."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = piece_tokenizer([*rules_of_the_games(), *(each.read_text() for each in PUBLISHED.glob("*.yaml"))])

    def make(published, layers=2):
        shape = architecture_of(published)
        folder = (
            tmp_path_factory.getbasetemp() / f"tiny-{shape.family}-{layers}-{'tied' if shape.tied else 'untied'}"
        )
        if not folder.exists():
            torch.manual_seed(0)
            config = AutoConfig.for_model(
                shape.family,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                max_position_embeddings=4096,
                vocab_size=len(tokenizer),
                bos_token_id=None,
                eos_token_id=1,
                pad_token_id=0,
                tie_word_embeddings=shape.tied,
            )
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    return make


def rules_of_the_games() -> list[str]:
    """What the games' contexts and prompts say; nothing where TextArena is not installed."""
    if importlib.util.find_spec("textarena") is None:
        return []
    tasks = [get_task(name) for name in sorted({load_config(name).task for name in GAMES})]
    texts = [context.splice for task in tasks for context in task.contexts(lambda c: len(c.splice)).values()]
    return [*texts, *(example.prompt for task in tasks for example in task.examples("test", 4))]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_the_setting_runs_end_to_end(name, tiny_family, tmp_path):
    published = load_config(name)
    topic = published.task.partition(":")[2]
    model = tiny_family(published.model)
    config = load_config(name, [*SMALL, f"model={model}", f"task={stand_in(topic, tmp_path)}"])
    study = open_or_create(config, tmp_path / "study")
    for arm in config.arms:
        distill(config, arm, 0, study)
    study = evaluate_study(study, config)
    rows = study.table("generations")
    assert set(rows["arm"]) == {"base", "opd", "nca"}
    assert set(rows["control"]) == {"none", "exact", "paraphrase", "mismatched", "irrelevant"}
    assert set(rows["outcome"]) <= set(OUTCOMES)
    assert rows["n_tokens"].max() <= TOKENS
    assert set(rows["sample"]) == set(range(config.evaluation.samples))
    train = [row for row in study.train_rows("nca", 0) if row["kind"] == "train"]
    assert len(train) == 2
    assert all(0 < mass < 1 for row in train for mass in row["topk_mass"].values())
    assert study.manifest["config"]["evaluation"]["top_p"] == published.evaluation.top_p
    drift = capture_study(study, config).table("drift")
    assert set(drift["arm"]) == {"base", "opd", "nca"}


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_the_game_runs_end_to_end(name, tiny_family, tmp_path):
    pytest.importorskip("textarena", reason="the extra `games` is not installed")
    published = load_config(name)
    teacher = f"teacher={tiny_family(published.teacher, layers=3)}" if published.teacher else "teacher=null"
    small = [*SMALL, "evaluation.samples=2", f"model={tiny_family(published.model)}", teacher]
    config = load_config(name, small)
    study = open_or_create(config, tmp_path / "study")
    for arm in config.arms:
        distill(config, arm, 0, study)
    rows = evaluate_study(study, config).table("generations")
    assert len(rows) == 3 * 4 * 5 * 2  # an episode is a row: arms, boards, views, samples
    assert set(rows["arm"]) == {"base", "opd", "nca"}
    assert set(rows["control"]) == {"none", "exact", "paraphrase", "mismatched", "irrelevant"}
    assert set(rows["outcome"]) <= set(OUTCOMES)
    # A random model names no move, and after two of those the game is over.
    assert set(rows["turn_tokens"].map(len)) == {2}
    assert (rows["turn_tokens"].map(sum) == rows["n_tokens"]).all()
    assert (rows["response_ids"].map(len) == rows["n_tokens"]).all()
    assert all("--- turn 2 ---" in response for response in rows["response"])
    train = [row for row in study.train_rows("nca", 0) if row["kind"] == "train"]
    assert [row["step"] for row in train] == [1, 2]
    assert all(3 < row["response_tokens"] <= 3 * 2 * TOKENS for row in train)
    drift = capture_study(study, config).table("drift")
    assert set(drift["arm"]) == {"base", "opd", "nca"}
    assert drift["n_examples"].max() == 4


def test_both_kinds_of_heads_are_among_the_games_and_the_questions():
    tied = {name: architecture_of(load_config(name).model).tied for name in (*SETTINGS, *GAMES)}
    assert {tied[name] for name in SETTINGS} == {True, False}
    assert all(tied[name] for name in GAMES)


def test_a_context_over_the_cap_stops_before_anything_is_made(tiny_family, tmp_path):
    config = load_config(
        "paper/safety-qwen3-8b",
        [
            *SMALL,
            f"model={tiny_family('Qwen/Qwen3-8B')}",
            f"task={stand_in('safety', tmp_path)}",
            "context_cap=5",
        ],
    )
    with pytest.raises(UserError, match="more than context_cap = 5"):
        open_or_create(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_fixed_template_variables_are_in_the_checkpoint(tiny_family, tmp_path):
    from cr_interp.models.loading import load

    config = load_config(
        "paper/medmcqa-llama32-3b",
        [
            *SMALL,
            f"model={tiny_family('meta-llama/Llama-3.2-3B-Instruct')}",
            f"task={stand_in('medmcqa', tmp_path)}",
            "arms=[opd]",
        ],
    )
    study = open_or_create(config, tmp_path / "study")
    template = load(str(distill(config, "opd", 0, study))).tokenizer.chat_template
    assert template.startswith('{%- set date_string = "26 Jul 2024" %}')


def test_without_rows_one_is_told_before_anything_is_made(tiny_family, tmp_path):
    # The context is a file here, so that the rows are what is missing.
    path = stand_in("safety", tmp_path, test={"dataset": "ytz20/sys_safety_test"})
    config = load_config(
        "paper/safety-qwen3-8b", [*SMALL, f"model={tiny_family('Qwen/Qwen3-8B')}", f"task={path}"]
    )
    with pytest.raises(UserError, match="the hub did not answer"):
        open_or_create(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()
