"""A tiny Llama whose blocks lie in several places, as ``device_map`` leaves it; blocks on disk stand for a second device, since
the same hooks fetch them."""

import copy

from accelerate import dispatch_model


def spread(model, folder):
    places = {
        "model.embed_tokens": "cpu",
        "model.rotary_emb": "cpu",
        "model.layers.0": "cpu",
        "model.layers.1": "disk",
        "model.layers.2": "disk",
        "model.norm": "cpu",
        "lm_head": "cpu",
    }
    spread_out = dispatch_model(copy.deepcopy(model), places, main_device="cpu", offload_dir=str(folder))
    assert next(spread_out.model.layers[1].parameters()).device.type == "meta"
    return spread_out
