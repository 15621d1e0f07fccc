"""Memory by part: closed forms, and what a tiny model's graph really keeps."""

import pytest
import torch
from tiny import tiny_model

from training.architecture import of_config, published
from training.memory import HELD, Setup, activations, inside, logits, memory, outside, peak
from training.objectives import arm_terms
from training.work import Lengths

SHAPE = published()["Qwen/Qwen3-8B"]
LENGTHS = Lengths(256, 512, 4096)
OPD, NCA = arm_terms("opd"), arm_terms("nca")


@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_sixteen_bytes_a_parameter_and_a_teacher(precision):
    one = memory(OPD, SHAPE, SHAPE, 128, LENGTHS, 256, Setup(precision=precision))
    assert sum(one[p] for p in HELD) == SHAPE.parameters * (18 if precision == "mixed" else 20)
    many = memory(OPD, SHAPE, SHAPE, 128, LENGTHS, 256, Setup(8, precision=precision))
    assert sum(many[p] for p in HELD) == pytest.approx(sum(one[p] for p in HELD) / 8)


def test_peak_takes_the_larger_of_update_and_rollouts():
    parts = memory(NCA, SHAPE, SHAPE, 128, LENGTHS, 256, Setup(8, 4))
    assert sum(parts[p] for p in HELD) < peak(parts) < sum(parts.values())


def test_nca_keeps_a_second_graph_and_checkpointing_keeps_less():
    opd, nca = (activations(terms, SHAPE, LENGTHS, Setup(micro_batch=4)) for terms in (OPD, NCA))
    inputs = 2 * SHAPE.layers * SHAPE.width  # bytes a token
    assert opd == 4 * 768 * (inputs + inside(SHAPE, "mixed"))
    assert nca == (8 * 768 + 4096) * inputs + (4 * 768 + 4096) * inside(SHAPE, "mixed")
    assert activations(NCA, SHAPE, LENGTHS, Setup(micro_batch=4, checkpointing=False)) > 4 * nca


def test_logits_never_exist_whole_under_a_top_k():
    vocabulary = SHAPE.vocabulary
    assert logits(NCA, SHAPE, 10_000, None) == 10_000 * vocabulary * 4 * 5
    assert logits(NCA, SHAPE, 10_000, 256) == 1024 * vocabulary * 12 + 10_000 * 256 * 20
    assert logits(NCA, SHAPE, 10, 256) == 10 * vocabulary * 12 + 10 * 256 * 20


def test_outside_of_the_blocks():
    assert outside(SHAPE) == 2 * SHAPE.embedding + SHAPE.width


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_what_one_block_keeps_is_near_what_autograd_saves(family):
    """Counted by autograd's own hooks: every saved tensor that is no parameter, shared storage once."""
    few, many = (_saved(tiny_model(family, layers=layers, attention="sdpa")) for layers in (1, 3))
    shape = of_config(tiny_model(family).config)
    assert (many - few) / 2 == pytest.approx(inside(shape, "float32") * 2 * 48, rel=0.05)


def _saved(model) -> int:
    kept: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.base_model(input_ids=torch.randint(2, 64, (2, 48))).last_hidden_state
    assert out.requires_grad  # holds the graph, and so every storage, until all are counted
    return sum(kept.values())
