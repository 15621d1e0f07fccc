"""The callback on a plain Trainer: it reads what it says, changes nothing of the training, and never ends it."""

import sys
import threading
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cr_interp.integrations.asked import asked
from cr_interp.integrations.callback import PATIENCE, TwoViews, watch
from transformers import TrainerCallback

from cr_interp.errors import UserError
from cr_interp.integrations import callback as integration
from cr_interp.integrations import live
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table
from cr_interp.views import Context, render

CONTEXT = "write it backwards"


class Heard(TrainerCallback):
    """What a logger is told."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **_):
        self.logs.append((state.global_step, dict(logs)))


def weights(trainer):
    return {name: each.detach().clone() for name, each in trainer.model.named_parameters()}


def by_hand(model, tokenizer, rows, tokens):
    """Every number of a reading, one sequence at a time and by the library's own generate and forward."""
    found = {"acc_x": [], "acc_xc": [], "length": [], "kl": [], "cosine": []}
    model = model.eval()
    for row in rows:
        views = [render(tokenizer, row["prompt"], each) for each in (None, Context.system(CONTEXT))]
        said = []
        for ids in views:
            out = model.generate(
                torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, eos_token_id=1, pad_token_id=0
            )
            said.append(out[0, len(ids) :].tolist())
        for name, ids in zip(("acc_x", "acc_xc"), said, strict=True):
            words = tokenizer.decode(ids, skip_special_tokens=True)
            found[name].append(row["answer"] in words.split())
        found["length"].append(len(said[0]))
        with torch.no_grad():
            outs = [model(torch.tensor([ids + said[0]]), output_hidden_states=True) for ids in views]
        n = len(said[0])
        p, q = (out.logits[0, -n - 1 : -1].log_softmax(-1) for out in outs)
        found["kl"] += (p.exp() * (p - q)).sum(-1).tolist()
        # hidden_states[-1] is after the final norm, so of two layers the first one's output is asked here.
        x, y = (out.hidden_states[1][0, -n - 1 : -1] for out in outs)
        found["cosine"] += torch.cosine_similarity(x, y).tolist()
    return {name: sum(map(float, values)) / len(values) for name, values in found.items()}


def test_a_reading_is_what_a_plain_forward_says(plain_trainer, tiny_llama, rows):
    trainer = plain_trainer(max_steps=2)
    views = watch(trainer, rows, context=CONTEXT, every=1, max_new_tokens=6)
    trainer.train()
    assert [reading["step"] for reading in views.readings] == [0, 1, 2]
    expected = by_hand(trainer.model, tiny_llama.tokenizer, rows, 6)
    last = views.readings[-1]
    assert last["length"] == expected["length"]
    assert last["acc_x"] == expected["acc_x"]
    assert last["acc_xc"] == expected["acc_xc"]
    assert last["invariance"] == pytest.approx(expected["kl"], rel=1e-4)
    assert last["min_cosine"] <= expected["cosine"] + 1e-5
    assert views.readings[0]["invariance"] != last["invariance"], "the model was trained in between"
    assert "fidelity" not in last, "nobody is the teacher"


def test_the_training_is_what_it_is_without(plain_trainer, tiny_llama, rows, tmp_path):
    """To the bit, with dropout on: no random number is drawn, and every module is in the mode that it was in."""
    ends = []
    for watched in (False, True):
        model = deepcopy(tiny_llama.model)
        model.config.attention_dropout = 0.1
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.1
        model.model.layers[0].eval()  # somebody's frozen part stays so
        trainer = plain_trainer(model=model)
        if watched:
            watch(
                trainer, rows, context=CONTEXT, every=1, max_new_tokens=4, study=tmp_path / "s", teacher="start"
            )
        trainer.train()
        ends.append((weights(trainer), [each.training for each in trainer.model.modules()], torch.rand(3)))
    assert all(torch.equal(one, ends[1][0][name]) for name, one in ends[0][0].items())
    assert ends[0][1] == ends[1][1]
    assert torch.equal(ends[0][2], ends[1][2])


def test_numbers_go_where_the_trainer_logs(plain_trainer, rows):
    heard = Heard()
    trainer = plain_trainer(callbacks=[heard])
    watch(trainer, rows, context=CONTEXT, every=2, max_new_tokens=4)
    trainer.train()
    told = {step: logs for step, logs in heard.logs if any(name.startswith("cr_interp/") for name in logs)}
    assert set(told) == {0, 2, 4}
    assert {"cr_interp/acc_x", "cr_interp/invariance", "cr_interp/min_cosine"} <= set(told[4])
    assert [step for step, logs in heard.logs if "loss" in logs] == [1, 2, 3, 4], "its own lines are all there"
    assert any("cr_interp/length" in row for row in trainer.state.log_history)
    assert all(value is not None for logs in told.values() for value in logs.values())


@pytest.mark.slow
def test_a_study_grows_and_is_one_like_any_other(plain_trainer, rows, tmp_path):
    seen = []

    class Looks(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            seen.append(len(Study.open(tmp_path / "s").training()))

    for seed in (0, 1):
        trainer = plain_trainer(learning_rate=1e-3 * (1 + seed))
        watch(trainer, rows, context=CONTEXT, every=2, max_new_tokens=4, study=tmp_path / "s", seed=seed)
        if not seed:
            trainer.add_callback(Looks())
        trainer.train()
    assert seen == sorted(seen)
    assert seen[0] < seen[-1], "it can be followed while it grows"
    study = Study.open(tmp_path / "s")
    log = study.training()
    assert set(log["seed"]) == {0, 1}
    mine = log[log["seed"] == 0]
    assert mine[mine["kind"] == "eval"]["step"].tolist() == [0, 2, 4]
    assert mine[mine["kind"] == "train"]["step"].tolist() == [1, 2, 3, 4]
    assert mine["loss"].notna().sum() == 4
    assert study.manifest["finished"]
    assert study.manifest["seeds"] == [0, 1]
    answers = study.table("generations")
    assert set(answers["arm"]) == {"base", "mine"}
    table = metric_table(study).set_index(["arm", "seed", "metric"])["estimate"]
    last = mine[(mine["kind"] == "eval") & (mine["step"] == 4)].iloc[0]
    assert table[("mine", 0, "acc_x")] == last["acc_x"]
    assert table[("mine", 0, "acc_xc")] == last["acc_xc"]


def test_an_adapter_is_read_with_its_base_as_the_teacher(plain_trainer, tiny_llama, rows):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        deepcopy(tiny_llama.model),
        peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    trainer = plain_trainer(model=model, learning_rate=0.05, max_steps=3)
    views = watch(trainer, rows, context=CONTEXT, every=3, max_new_tokens=6)
    trainer.train()
    first, last = views.readings
    assert first["fidelity"] == pytest.approx(first["invariance"], rel=1e-5), "a fresh adapter does nothing"
    assert abs(last["fidelity"] - last["invariance"]) > 1e-4
    other = watch(
        plain_trainer(model=trainer.model, max_steps=1, learning_rate=0.0),
        rows,
        context=CONTEXT,
        every=9,
        max_new_tokens=6,
        teacher=tiny_llama.model,
    )
    other.trainer.train()
    assert other.readings[0]["fidelity"] == pytest.approx(last["fidelity"], rel=1e-4)


def test_a_model_without_a_chat_template_is_read_as_texts(plain_trainer, tiny_llama, rows, capsys):
    tokenizer = deepcopy(tiny_llama.tokenizer)
    tokenizer.chat_template = None
    trainer = plain_trainer(tokenizer=tokenizer, max_steps=1)
    views = watch(trainer, rows, context="abc", every=1, max_new_tokens=4)
    trainer.train()
    assert "no chat template" in capsys.readouterr().err
    example = views._views.examples[0]
    assert example.without == tokenizer("abcd")["input_ids"]
    assert example.given == tokenizer("abc\n\nabcd")["input_ids"]
    assert views.readings[-1]["invariance"] > 0


def test_contexts_of_each_row_and_no_key(plain_trainer, tiny_llama):
    rows = [
        {"prompt": [{"role": "user", "content": "abc"}], "privileged_context": "hint: c"},
        {"prompt": "bcd", "context": "hint: b"},
    ]
    trainer = plain_trainer(max_steps=1)
    views = watch(trainer, rows, every=1, max_new_tokens=4, template="{prompt}\n\n{privileged_context}")
    trainer.train()
    first = views._views.examples[0]
    assert first.without == render(tiny_llama.tokenizer, "abc", None, ())
    assert first.given == render(tiny_llama.tokenizer, "abc", Context(splice="{prompt}\n\nhint: c"), ())
    assert {"invariance", "changed", "length"} <= set(views.readings[-1])
    assert "acc_x" not in views.readings[-1]


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([], {}, "no example"),
        ([{"prompt": "a"}], {}, "has no context"),
        ([{"answer": "a"}], {"context": "x"}, "has no 'prompt'"),
        ([{"prompt": [{"role": "assistant", "content": "a"}]}], {"context": "x"}, "ends with the user's"),
        ([{"prompt": [{"role": "user", "content": [{"type": "image"}]}]}], {"context": "x"}, "not a text"),
        (
            [{"prompt": [{"role": "system", "content": 5}, {"role": "user", "content": "a"}]}],
            {"context": "x"},
            "to be a text",
        ),
        ([{"prompt": "a", "context": ""}], {}, "a context is a text"),
        ([{"prompt": "a"}], {"context": "x", "max_new_tokens": 10_000}, "positions"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_step(rows, options, said, plain_trainer):
    trainer = plain_trainer()
    watch(trainer, rows, every=1, **{"max_new_tokens": 4, **options})
    before = weights(trainer)
    with pytest.raises(UserError, match=said):
        trainer.train()
    assert all(torch.equal(each, weights(trainer)[name]) for name, each in before.items())


def test_parts_are_one_text_and_special_tokens_are_letters_or_said(tiny_llama, capsys):
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b<|end|>"}]}]
    special = set(tiny_llama.tokenizer.all_special_ids)
    (in_chat,) = asked(tiny_llama.tokenizer, [{"prompt": parts}], "c")
    (plain,) = asked(tiny_llama.tokenizer, [{"prompt": "a"}], "c", no_context="template_default")
    assert in_chat.prompt == "a\nb<|end|>"
    assert [i for i in in_chat.without if i in special] == [i for i in plain.without if i in special]
    assert capsys.readouterr().err == ""
    asked(tiny_llama.tokenizer, [{"prompt": parts}], "c", as_text=True)
    assert "special tokens, which are read as such: <|end|>." in capsys.readouterr().err


def test_options_are_checked_at_once(rows):
    with pytest.raises(UserError, match="at least 1"):
        TwoViews(rows, context=CONTEXT, every=0)
    with pytest.raises(UserError, match="before training"):
        TwoViews(rows, context=CONTEXT, study="s", arm="base")


def test_a_reading_that_fails_does_not_end_the_training(plain_trainer, rows, monkeypatch, capsys):
    trainer = plain_trainer(max_steps=6)
    views = watch(trainer, rows, context=CONTEXT, every=1, max_new_tokens=4)
    real, calls = integration.Views.read, []

    def broken(self, *args):
        calls.append(0)
        if len(calls) > 1:
            raise RuntimeError("CUDA out of memory")
        return real(self, *args)

    monkeypatch.setattr(integration.Views, "read", broken)
    trainer.train()
    assert trainer.state.global_step == 6
    assert len(calls) == 1 + PATIENCE
    said = capsys.readouterr().err
    assert said.count("could not be read") == PATIENCE
    assert "there will be no more" in said
    assert [each["step"] for each in views.readings] == [0]


@pytest.mark.parametrize("part", ["read", "trained", "end"])
def test_a_study_that_cannot_be_written_does_not_end_the_training(
    part, plain_trainer, rows, tmp_path, monkeypatch, capsys
):
    """A disk that fills up on the way: the readings go on, too."""

    def full(self, *args):
        raise UserError("the disk is full")

    monkeypatch.setattr(live.LiveStudy, part, full)
    trainer = plain_trainer(max_steps=3)
    views = watch(trainer, rows, context=CONTEXT, every=1, max_new_tokens=4, study=tmp_path / "s")
    trainer.train()
    assert trainer.state.global_step == 3
    assert [each["step"] for each in views.readings] == [0, 1, 2, 3]
    assert capsys.readouterr().err.count("the disk is full") == 1


def test_a_grader_of_ones_own_that_fails_later_does_not_end_the_training(plain_trainer, rows, capsys):
    graded = []

    def grade(answer, response, truncated):
        graded.append(response)
        if len(graded) > 2 * len(rows):
            raise KeyError("mine")
        return "right"

    trainer = plain_trainer(max_steps=2)
    watch(trainer, rows, context=CONTEXT, every=1, max_new_tokens=4, grade=grade)
    trainer.train()
    assert trainer.state.global_step == 2
    assert "'mine'" in capsys.readouterr().err


def test_two_runs_that_begin_in_one_study_at_once_are_both_in_it(tiny_llama, tmp_path, monkeypatch):
    """The second one begins while the first has read the manifest and not yet written its own."""
    real, runs = live.Study.create, []

    def begin(arm):
        args = SimpleNamespace(learning_rate=1.0, train_batch_size=1, gradient_accumulation_steps=1, world_size=1)
        live.LiveStudy(tmp_path / "s", arm, 0).begin(tiny_llama, args, SimpleNamespace(max_steps=1), [], 4, 1)

    def slow(path, manifest):
        if not runs:
            runs.append(threading.Thread(target=begin, args=("second",)))
            runs[0].start()
            runs[0].join(0.3)
        return real(path, manifest)

    monkeypatch.setattr(live.Study, "create", staticmethod(slow))
    begin("first")
    runs[0].join(30)
    assert set(Study.open(tmp_path / "s").manifest["arms"]) == {"first", "second"}


def test_sharded_weights_are_left_alone(plain_trainer, rows, monkeypatch, capsys):
    monkeypatch.setattr(integration, "is_sharded", lambda model: True)
    trainer = plain_trainer(max_steps=1)
    views = watch(trainer, rows, context=CONTEXT, every=1)
    trainer.train()
    assert not views.readings
    assert "sharded" in capsys.readouterr().err


def test_the_address_takes_no_name_of_a_script_s_own():
    """In an environment where a script has a package ``training`` of its own, nothing here is taken for it."""
    found = sys.modules["cr_interp.integrations.callback"]
    assert found.__file__.endswith("training/integrations/callback.py")
    source = Path(found.__file__).read_text("utf-8")
    assert "import training" not in source
    assert "from training" not in source
