"""A model whose blocks are in several places (accelerate's ``device_map``) gives the same states and tokens; one whose weights
are spread over processes is known as such (what FSDP2 does with it is tested in ``training/sharded_step.py``).

No second device is needed: blocks that live on disk are fetched by the same hooks that move states between devices.
"""

import pytest
import torch
from agreement import assert_same
from spread import spread
from tiny import tiny_model, tiny_view

from cr_interp.capture import capture
from cr_interp.capture.sites import all_sites
from cr_interp.models import generation
from cr_interp.models.forward import vocabulary
from cr_interp.models.generation import Decoding, generate
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import is_sharded
from training.organisms.organism import build_tokenizer


@pytest.mark.parametrize("prefix_length", [None, 0])
def test_states_of_a_model_in_pieces(tmp_path, prefix_length):
    model = tiny_model("llama")
    sites = all_sites(model)
    expected = capture(model, tiny_view(prefix_length=prefix_length), sites)
    found = capture(spread(model, tmp_path), tiny_view(prefix_length=prefix_length), sites)
    assert_same(found, expected)


def test_responses_of_a_model_in_pieces(tmp_path):
    model = tiny_model("llama")
    prompts = [torch.arange(2, n).tolist() for n in (12, 9, 20)]
    whole = generate(Loaded("whole", model, build_tokenizer()), prompts, Decoding(8))
    pieces = generate(Loaded("pieces", spread(model, tmp_path), build_tokenizer()), prompts, Decoding(8))
    assert [r.ids for r in pieces] == [r.ids for r in whole]


def test_zero3s_empty_tensors_are_known_with_their_shape():
    model = tiny_model("llama")
    assert not is_sharded(model)
    rows = vocabulary(model)
    for id, parameter in enumerate(model.parameters()):  # as DeepSpeed leaves them between two uses
        parameter.ds_id, parameter.ds_shape = id, parameter.shape
        parameter.data = torch.empty(0)
    assert is_sharded(model)
    assert vocabulary(model) == rows


def test_processes_with_zero3s_weights_decode_in_step(monkeypatch):
    model = tiny_model("llama")
    next(model.parameters()).ds_id = 0
    asked = []
    monkeypatch.setattr(generation, "all_agree", lambda done: asked.append(done) or False)
    loaded = Loaded("zero3", model, build_tokenizer())
    ended = generate(loaded, [[2, 3, 4]], Decoding(40, 2.0), generation.noise(0, [0], 40))
    assert len(ended[0].ids) < 40
    assert len(asked) == 40  # the others may have more to say
