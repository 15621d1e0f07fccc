"""What a configuration does to its task and models: response length, fixed template variables, the cap on contexts; and which
teachers it can have."""

import pytest
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.models.loading import tokenizer_fingerprint
from cr_interp.views import render
from training.run.distill import load_pair
from training.run.subject import exact_context, fix_template
from training.settings import load_config
from training.task_of import study_task


def config(*overrides):
    return load_config("organism-shift", list(overrides))


def test_the_configuration_shortens_responses():
    assert study_task(config()).max_new_tokens == 18
    assert study_task(config("max_new_tokens=5")).max_new_tokens == 5


def test_turns_that_a_task_does_not_have_are_refused():
    with pytest.raises(UserError, match="Set max_turns=1"):
        study_task(config("max_turns=5"))


def test_a_context_over_the_cap_is_refused_and_not_cut():
    loaded = tiny()
    task = study_task(config())
    text = exact_context(task, loaded, config()).messages[0]["content"]
    added = len(text) + 2  # a token a character, and the message's two marks
    assert exact_context(task, loaded, config(f"context_cap={added}"))
    with pytest.raises(UserError, match=f"adds {added} tokens.*more than context_cap = {added - 1}"):
        exact_context(task, loaded, config(f"context_cap={added - 1}"))


def test_template_variables_are_fixed_once_and_saved(tmp_path):
    from transformers import AutoTokenizer

    loaded = tiny()
    tokenizer = loaded.tokenizer
    tokenizer.chat_template = (
        "{% if thinking is defined and thinking is false %}calm {% endif %}{{ date_string or 'now' }}"
        + tokenizer.chat_template
    )
    before = tokenizer_fingerprint(tokenizer)
    assert tokenizer.decode(render(tokenizer, "x")).startswith("now")
    for _ in range(2):
        fix_template(loaded, {"thinking": False, "date_string": '1 "May"'})
    assert tokenizer.decode(render(tokenizer, "x")).startswith('calm 1 "May"')
    assert tokenizer.chat_template.count("{%- set thinking") == 1
    assert tokenizer_fingerprint(tokenizer) != before
    tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert render(saved, "x") == render(tokenizer, "x")
    with pytest.raises(UserError, match="not the name of a variable"):
        fix_template(loaded, {"a b": 1})


@pytest.mark.parametrize("lora", ["null", "{rank: 2}"])
def test_a_teacher_that_does_not_score_the_students_tokens_is_refused(tmp_path, lora):
    def saved(name, change):
        loaded = tiny()
        change(loaded)
        loaded.model.save_pretrained(tmp_path / name)
        loaded.tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    student = saved("student", lambda _: None)
    longer = saved("longer", lambda loaded: loaded.model.resize_token_embeddings(108))
    other = saved("other", lambda loaded: setattr(loaded.tokenizer, "chat_template", "x"))
    taught = [f"model={student}", f"training.lora={lora}"]
    assert load_pair(config(*taught, f"teacher={student}"))
    earlier = saved("earlier", lambda loaded: setattr(loaded.model.generation_config, "eos_token_id", [1, 7]))
    with pytest.raises(
        UserError, match=r"ends its turns with <\|end\|>, teacher .* with <\|end\|>, .*eos_token_id"
    ):
        load_pair(config(*taught, f"teacher={earlier}"))
    with pytest.raises(UserError, match=r"101 and 108 rows.*resize_token_embeddings"):
        load_pair(config(*taught, f"teacher={longer}"))
    with pytest.raises(UserError, match="different tokenizers or chat templates"):
        load_pair(config(*taught, f"teacher={other}"))


def test_a_logger_that_wants_a_login_is_said_to(tmp_path, monkeypatch):
    import training.run.distill as run
    from cr_interp.study.study import Study

    class UsageError(Exception):
        __module__ = "wandb.errors"

    class Trainer:
        args = type("Args", (), {})()

        def __init__(self, *_, **__):
            pass

        def train(self, **_):
            raise UsageError("No API key configured.\nUse `wandb login`")

    monkeypatch.setattr(run, "DistillTrainer", Trainer)
    config = load_config("organism-shift", ["report_to=[wandb]", "training.steps=1", "training.batch_size=1"])
    with pytest.raises(UserError, match="logger of report_to refused: No API key"):
        run.distill(config, "opd", 0, Study.create(tmp_path / "s", {}))
