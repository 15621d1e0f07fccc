"""What would stop a run is said by its plan, where the files of this machine tell; and no number makes a plan take for ever."""

import json
import struct
from contextlib import suppress

import pytest

from cr_interp.errors import UserError
from cr_interp.models.known import ORGANISMS
from training.planning.architecture import architecture_of
from training.planning.at_hand import adapter_problems, logger_problems, weights
from training.planning.duration import gpu, writing
from training.planning.plan import make_plan
from training.planning.work import Lengths
from training.settings import LOGGERS, load_config


def problems(*overrides):
    return " ".join(make_plan(load_config("organism-shift", list(overrides))).problems)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=sentiment", "training.eval_examples=161"], "which has 160 distinct ones"),
        (["task=sentiment", "evaluation.examples=100000"], "Asked for 100000 examples of the test split"),
        (["task=sentiment", "evaluation.split=validation", "evaluation.examples=161"], "of the validation split"),
        (["training.lora.target_modules=[nothing]"], "inside the layers are called down_proj, gate_proj"),
        (["training.lora.target_modules=[embed_tokens]"], "does not fit"),
        (["training.lora.target_modules=[q_proj, norm]"], "does not fit"),
        (["training.lora.target_modules=[]"], "nothing would be trained"),
        (["task=sentiment", "training.eval_examples=160", "evaluation.examples=200"], ""),
        (["training.lora.target_modules=[q_proj, nothing]", "training.lora.rank=2"], ""),
    ],
)
def test_what_the_run_would_refuse_is_a_problem_of_the_plan(overrides, said):
    found = problems(*overrides)
    assert said in found
    assert bool(said) == bool(found)


def test_rows_of_ones_own_are_counted(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"p{n}", "answer": "x"}) + "\n" for n in range(40))
    )
    told = {
        "name": "mine",
        "train": {"dataset": "rows.jsonl"},
        "test": {"dataset": "rows.jsonl"},
        "context": {"text": "be brief"},
        "grader": {"kind": "contains"},
    }
    (tmp_path / "task.yaml").write_text(json.dumps(told))
    assert "none of them falls into the train" in problems(f"task={tmp_path / 'task.yaml'}")
    (tmp_path / "rows.jsonl").write_text('{"prompt": 1}\n')
    assert "rows.jsonl" in problems(f"task={tmp_path / 'task.yaml'}")


def test_a_logger_that_is_not_installed(monkeypatch):
    config = load_config("organism-shift", ["report_to=[tensorboard, all, none]"])
    monkeypatch.setattr("training.planning.at_hand.find_spec", lambda package: None)
    assert list(logger_problems(config)) == [
        "report_to names tensorboard, whose package tensorboard is not installed. Install it, or leave it out."
    ]
    monkeypatch.setattr("training.planning.at_hand.find_spec", lambda package: package == "tensorboardX")
    assert list(logger_problems(config)) == []


def test_the_loggers_are_the_trainers():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(LOGGERS) == {"all", "none", *INTEGRATION_TO_CALLBACK}


def test_maps_are_read_from_the_head_of_the_weights(tmp_path):
    maps = weights("builtin:organism-rules")
    assert "model.layers.0.self_attn.q_proj" in maps
    assert (maps["model.norm"], maps["model.layers.0.self_attn.q_proj"]) == (1, 2)
    assert weights("somebody/model") == {}
    for data in (b"", b"\0" * 8, struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 90_000) + b"[" * 90_000):
        (tmp_path / "model.safetensors").write_bytes(data)
        assert weights(str(tmp_path)) == {}
    config = load_config("organism-shift", ["training.lora.target_modules=[x]"])
    assert list(adapter_problems(config.model_copy(update={"model": "somebody/model"}))) == []
    assert ORGANISMS.is_dir()


@pytest.mark.parametrize("rows", [1, 7, 256, 257, 1000])
def test_hours_of_writing_are_those_of_each_round(rows):
    """As many rounds as it takes, the last one shorter: by a loop."""
    from training.planning.duration import ENGINE_ROWS

    shape, lengths, on = architecture_of("builtin:organism-rules"), Lengths(20, 10, 30), gpu("H100-80GB")
    start = writing(shape, 1, lengths, on, 1) - _round(shape, 1, lengths, on)
    reading = rows * start
    sizes = [min(ENGINE_ROWS, rows - at) for at in range(0, rows, ENGINE_ROWS)]
    expected = reading + sum(_round(shape, size, lengths, on) for size in sizes)
    assert writing(shape, rows, lengths, on, 1) == pytest.approx(expected, rel=1e-9)


def _round(shape, rows, lengths, on):
    """Of so many rows at once, what is left when the reading, which is in proportion to the rows, is taken out."""
    from training.planning.duration import BANDWIDTH, computing
    from training.planning.work import forward, head

    seen = lengths.prompt + lengths.response / 2
    read = (2 * shape.parameters + rows * seen * shape.kv_bytes) / (on.bandwidth * 1e9 * BANDWIDTH)
    return lengths.aligned * max(read, computing(rows * (forward(shape, 1, int(seen)) + head(shape, 1)), on, 1))


@pytest.mark.slow
def test_the_largest_numbers_are_planned_at_once():
    made = make_plan(
        load_config(
            "organism-shift",
            [
                "training.eval_examples=100000000",
                "evaluation.examples=100000000",
                "training.steps=100000000",
                "evaluation.samples=1000000",
                "training.batch_size=1000000",
            ],
        )
    )
    assert all(row["hours_in_all"] > 10 for row in made.hours if row["number"])


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": "x"},
        {"num_attention_heads": 0},
        {"hidden_size": None},
        {"hidden_size": [1]},
        {"model_type": 3},
        {"num_hidden_layers": -1},
        {"vocab_size": 1e400},
        {"vocab_size": {"a": 1}},
        {"model_type": "nothing"},
        {"layer_types": "x"},
        "[]",
        "[" * 100_000,
        "{",
        "\xff",
        "",
    ],
)
def test_the_shape_of_a_model_of_anybodys(changes, tmp_path):
    """Planned, or refused in a sentence."""
    told = json.loads((ORGANISMS / "rules" / "config.json").read_text())
    text = changes if isinstance(changes, str) else json.dumps(told | changes)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with suppress(UserError):
        assert make_plan(load_config("organism-shift", [f"model={tmp_path}"])).hours
