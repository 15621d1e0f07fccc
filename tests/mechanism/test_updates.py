"""Updates against closed forms: planted changes of known rank, size and place."""

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny, tiny_model

from cr_interp.errors import UserError
from cr_interp.mechanism.given import Weights
from cr_interp.mechanism.updates import compare, leading, place_of, rows, spectrum
from cr_interp.models.tensors import Tensors, open_tensors


def of(tensors):
    return Tensors("these", tensors)


def value(table, measure, control="none", **where):
    chosen = table[(table["measure"] == measure) & (table["control"] == control)]
    for column, wanted in where.items():
        chosen = chosen[chosen[column] == wanted]
    assert len(chosen) == 1
    return chosen["estimate"].iloc[0]


def basis(n, seed):
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[
        0
    ].float()


KEY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def planted():
    """W of 40 × 20 with the singular values 20, 19, …, 1, and its singular vectors."""
    left, right = basis(40, 0)[:, :20], basis(20, 1)
    return left @ torch.diag(torch.arange(20.0, 0, -1)) @ right.T, left, right


@pytest.mark.parametrize("turned", [False, True])
def test_a_planted_change_has_its_rank_size_and_place(planted, turned):
    weight, left, right = planted
    # Values 3 and 1 on W's first two directions, 2 on its last: k = 2 of 20 are the leading ones.
    change = left[:, [0, 1, 19]] @ torch.diag(torch.tensor([3.0, 1.0, 2.0])) @ right[:, [0, 1, 19]].T
    if turned:
        weight, change = weight.T, change.T
    table = compare(of({KEY: weight + change}), of({KEY: weight}))["updates"]
    assert set(table["module"]) == {"self_attn.q_proj"}
    assert set(table["layer"]) == {1}
    assert value(table, "norm") == pytest.approx(14**0.5, rel=1e-4)
    assert value(table, "relative") == pytest.approx((14 / sum(k * k for k in range(1, 21))) ** 0.5, rel=1e-4)
    assert value(table, "stable_rank") == pytest.approx(14 / 9, rel=1e-4)
    assert value(table, "top_share") == pytest.approx(10 / 14, rel=1e-4)
    assert value(table, "top_share", "random") == pytest.approx(4 / 800)


def test_a_random_change_is_as_its_controls_say():
    torch.manual_seed(0)
    weight, change = torch.randn(200, 100), torch.randn(200, 100)
    table = compare(of({KEY: weight + change}), of({KEY: weight}))["updates"]
    # The share is a mean of k² = 100 squared normal numbers: its SD is √(2/100) of it.
    for measure, reach in (("stable_rank", 0.1), ("top_share", 3 * 0.02**0.5)):
        assert value(table, measure) == pytest.approx(value(table, measure, "random"), rel=reach)


def test_weights_that_bfloat16_does_not_tell_apart():
    weight = torch.full((4, 5), 1.0)
    change = torch.zeros(4, 5)
    change[0], change[1] = 2.0**-12, 0.5  # bfloat16 has 8 bits of precision: the first is rounded away
    table = compare(of({KEY: weight + change}), of({KEY: weight}))["updates"]
    assert value(table, "unchanged_bf16") == 0.75


def test_overlaps_of_two_runs():
    one, other = torch.zeros(40, 20), torch.zeros(40, 20)
    one[:8, :8] = torch.diag(torch.arange(8.0, 0, -1))
    other[4:12, :8] = torch.diag(torch.arange(8.0, 0, -1))  # half of the outputs, all of the inputs
    weight = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    table = compare(of({KEY: weight + one}), of({KEY: weight}), {("nca", 2): of({KEY: weight + other})})
    table = table["update_overlaps"]
    assert set(table["other_arm"]) == {"nca"}
    assert set(table["other_seed"]) == {2}
    assert value(table, "output_space") == pytest.approx(0.5, abs=1e-3)
    assert value(table, "input_space") == pytest.approx(1.0, abs=1e-3)
    assert value(table, "output_space", "random") == 8 / 40
    assert value(table, "cosine") == pytest.approx(0.0, abs=1e-4)
    same = compare(of({KEY: weight + one}), of({KEY: weight}), {("opd", 1): of({KEY: weight + 2 * one})})
    assert value(same["update_overlaps"], "cosine") == pytest.approx(1.0, rel=1e-4)


def test_random_updates_overlap_as_their_controls_say():
    torch.manual_seed(1)
    weight = torch.zeros(100, 80)
    table = compare(
        of({KEY: torch.randn(100, 80)}), of({KEY: weight}), {("nca", 0): of({KEY: torch.randn(100, 80)})}
    )["update_overlaps"]
    control = table[(table["measure"] == "cosine") & (table["control"] == "random")].iloc[0]
    assert control["low"] < value(table, "cosine") < control["high"]
    assert control["high"] == pytest.approx(1.96 / 8000**0.5)
    assert value(table, "input_space") == pytest.approx(value(table, "input_space", "random"), abs=0.06)


def test_an_unchanged_weight_has_no_rank_and_no_overlap():
    weight = torch.randn(6, 5)
    tables = compare(of({KEY: weight}), of({KEY: weight}), {("nca", 0): of({KEY: weight + 1})})
    assert value(tables["updates"], "norm") == 0
    assert value(tables["updates"], "unchanged_bf16") == 1
    assert set(tables["updates"]["measure"]) == {"norm", "weight_norm", "relative", "unchanged_bf16"}
    assert tables["update_overlaps"].empty


@pytest.mark.parametrize("shape", [(7, 12), (12, 7), (9, 9)])
def test_singular_vectors_are_the_librarys(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    np.testing.assert_allclose(spectrum(matrix), values, rtol=1e-5)
    mine = leading(matrix, 3)
    for found, expected in zip(mine, (left[:, :3], right[:3].T), strict=True):
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_models_of_two_architectures_are_refused():
    with pytest.raises(UserError, match="no tensor of one name"):
        compare(of({KEY: torch.zeros(2, 2)}), of({"transformer.h.0.c.weight": torch.zeros(2, 2)}))
    with pytest.raises(UserError, match=r"q_proj.weight has the shape \(3, 2\)"):
        compare(of({KEY: torch.zeros(3, 2)}), of({KEY: torch.zeros(2, 2)}))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("gpt_neox.layers.11.attention.query_key_value.weight", ("attention.query_key_value", 11)),
        ("transformer.h.0.attn.c_attn.bias", ("attn.c_attn.bias", 0)),
        ("model.embed_tokens.weight", ("embed_tokens", -1)),
        ("lm_head.weight", ("lm_head", -1)),
        ("model.norm.weight", ("norm", -1)),
        ("gpt_neox.embed_in.weight", ("gpt_neox.embed_in", -1)),
    ],
)
def test_module_and_layer_of_a_name(name, place):
    assert place_of(name) == place


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    loaded = tiny()
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def by_hand(kind, weight, a, b, magnitude):
    """W' of LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024), rank 4 and alpha 8."""
    scale = 8 / 4**0.5 if kind == "rsLoRA" else 8 / 4
    moved = weight + scale * b @ a
    return moved if magnitude is None else magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("kind", ["LoRA", "rsLoRA", "DoRA"])
def test_an_adapters_update_is_what_its_paper_says(kind, base, tmp_path):
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj"], use_rslora=kind == "rsLoRA", use_dora=kind == "DoRA"
    )
    model = peft.get_peft_model(tiny().model, config)
    generator = torch.Generator().manual_seed(5)
    planted = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "layers.1" in name:
                drawn = torch.rand(parameter.shape, generator=generator)
                parameter.copy_(0.1 * drawn if "magnitude" not in name else parameter * (0.5 + drawn))
                planted[name.split("lora_")[1].split(".")[0]] = parameter.clone()
    model.save_pretrained(tmp_path / "a")
    config = (tmp_path / "a" / "adapter_config.json").read_text()
    (tmp_path / "a" / "adapter_config.json").write_text(
        config.replace('"base_model_name_or_path": null', f'"base_model_name_or_path": "{base}"').replace(
            '"base_model_name_or_path": ""', f'"base_model_name_or_path": "{base}"'
        )
    )
    key = "model.layers.1.self_attn.q_proj.weight"
    weight = open_tensors(str(base))[key]
    expected = by_hand(kind, weight, planted["A"], planted["B"], planted.get("magnitude_vector")) - weight
    table = rows(Weights(str(tmp_path / "a"), str(base), {}))["updates"]
    mine = table[(table["module"] == "self_attn.q_proj") & (table["layer"] == 1)]
    assert value(mine, "norm") == pytest.approx(float(expected.norm()), rel=1e-4)
    assert value(mine, "stable_rank") == pytest.approx(
        float(expected.norm() / torch.linalg.matrix_norm(expected, 2)) ** 2, rel=1e-3
    )
    others = table[
        (table["measure"] == "norm") & ~((table["module"] == "self_attn.q_proj") & (table["layer"] == 1))
    ]
    assert others["estimate"].max() < 1e-6


def test_shards_are_read_tensor_by_tensor(base, tmp_path):
    import json
    import shutil

    shutil.copytree(base, tmp_path / "sharded")
    whole = open_tensors(str(base))
    keys = list(whole)
    (tmp_path / "sharded" / "model.safetensors").unlink()
    files = {f"model-{i}.safetensors": keys[i::2] for i in (0, 1)}
    for file, mine in files.items():
        save_file({key: whole[key] + 1 for key in mine}, tmp_path / "sharded" / file)
    index = {"weight_map": {key: file for file, mine in files.items() for key in mine}}
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    table = rows(Weights(str(tmp_path / "sharded"), str(base), {}))["updates"]
    norms = table[table["measure"] == "norm"]
    np.testing.assert_allclose(norms["estimate"], norms["n_weights"] ** 0.5, rtol=1e-5)
    assert len(norms) == len(keys)


def test_gpt2_s_matrices_are_turned_to_out_by_in(tmp_path):
    """transformers stores them in × out, so what a change writes to would pass for what it reads."""
    model = tiny_model("gpt2")
    stored = model.transformer.h[1].mlp.c_fc.weight
    inputs, outputs = stored.shape
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        stored[1, 5] += 1.0  # from input 1 to output 5
    model.save_pretrained(tmp_path / "one")
    base, one = (open_tensors(str(tmp_path / name)) for name in ("base", "one"))
    key = next(each for each in base if each.endswith("h.1.mlp.c_fc.weight"))
    assert base[key].shape == (outputs, inputs)
    assert (one[key] - base[key]).nonzero().tolist() == [[5, 1]]
    lookup = next(each for each in base if each.endswith("wte.weight"))
    assert base[lookup].shape == model.transformer.wte.weight.shape
