"""The lens: at the last layer the model itself, at the others TransformerLens's, and on a model written by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from knocked import answered, loaded_of, planted, planted_pairs
from tiny import tiny_model

from cr_interp.capture import capture
from cr_interp.capture.sites import Site
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.lens import lens_estimates, lens_of, read_off
from cr_interp.models.forward import build_view

FAMILIES = ["llama", "gemma2", "gpt2", "gpt_neox"]


def some_pairs(model):
    raw = [
        Pair(f"e{i}", f"c{i}", "harmed", [2, 3, *own], [2, 9, 8, 7, 3, *own], [0] * n, n - 1)
        for i, (own, n) in enumerate((([10, 11], 2), ([12], 3), ([13, 14, 15, 16], 1)))
    ]
    return [answered(model, pair) for pair in raw]


@pytest.mark.parametrize("family", FAMILIES)
def test_behind_the_last_layer_it_is_the_model_itself_in_both_views(family):
    overrides = {"final_logit_softcapping": 5.0} if family == "gemma2" else {}
    model = tiny_model(family, layers=2, **overrides)
    pairs = some_pairs(model)
    found = lens_of(loaded_of(model), pairs, controls=("none",), batch_size=2)
    last = found[(found["layer"] == 1) & (found["site"] == "resid_post")].set_index(
        ["example_id", "position", "view"]
    )
    assert len(last) == 2 * sum(len(pair.response) for pair in pairs)
    for pair in pairs:
        said = {}
        for view, prompt in (("no_context", pair.without), ("with_context", pair.given)):
            ids = torch.tensor([[*prompt, *pair.response[:-1]]])
            with torch.no_grad():
                scores = model(input_ids=ids).logits[0, len(prompt) - 1 :]
            said[view] = torch.log_softmax(scores.float(), -1)
        for position, token in enumerate(pair.response):
            expected = said["no_context"][position], said["with_context"][position]
            kl = (expected[0].exp() * (expected[0] - expected[1])).sum().item()
            for view in said:
                row = last.loc[(pair.example_id, position, view)]
                of = said[view][position]
                assert row["logprob"] == pytest.approx(of[token].item(), rel=1e-3, abs=1e-4)
                assert row["rank"] == 1 + int((of > of[token]).sum())
                assert row["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-4)
                assert row["parts"] == (position == pair.place)
                if row["parts"]:
                    assert row["other_logprob"] == pytest.approx(of[pair.other].item(), rel=1e-3, abs=1e-4)
                else:
                    assert np.isnan(row["other_logprob"])


def test_another_example_is_the_same_one_whatever_the_batches():
    model = tiny_model("llama", layers=2)
    keys = ["example_id", "position", "layer", "site", "view", "control"]
    whole, alone = (
        lens_of(loaded_of(model), some_pairs(model), batch_size=size).sort_values(keys, ignore_index=True)
        for size in (3, 1)
    )
    assert (whole["control"] == "other").sum() == len(whole) / 2
    pd.testing.assert_frame_equal(whole, alone, rtol=1e-4, atol=1e-4)


def test_on_a_planted_model_right_and_wrong_part_behind_the_planted_layer():
    table = lens_estimates(lens_of(loaded_of(planted(layer=1)), planted_pairs()))
    real = table[table["control"] == "none"]
    at = real.set_index(["view", "token", "readout", "layer", "site"])["estimate"]
    for layer, site in ((0, "resid_pre"), (0, "resid_post"), (1, "resid_post"), (2, "resid_post")):
        flipped = layer >= 1
        assert at["no_context", "right", "first", layer, site] == 1
        assert at["with_context", "right", "first", layer, site] == (not flipped)
        assert at["with_context", "wrong", "first", layer, site] == flipped
        assert (at["between", "all", "kl", layer, site] > 0.1) == flipped
        assert at["no_context", "right", "rank", layer, site] == 1
    assert (real.loc[real["n_examples"].notna(), "n_examples"] == 6).all()
    # Six of six are no certainty: 1 − 0.025^(1/6) is Clopper and Pearson's end for none of six.
    none = real[(real["readout"] == "first") & (real["estimate"] == 0)]
    np.testing.assert_allclose(none["high"], 1 - 0.025 ** (1 / 6), rtol=1e-6)
    # Another example's state says another example's token.
    other = table[(table["control"] == "other") & (table["readout"] == "first") & (table["token"] == "right")]
    assert (other["estimate"] == 0).all()


def test_groups_name_their_tokens_and_unparted_answers_are_averaged_over_their_tokens():
    model = tiny_model("llama", layers=2)
    harmed, rescued, kept = some_pairs(model)
    changed = Pair(
        "e3", "c3", "changed", *(getattr(harmed, n) for n in ("without", "given", "response", "place", "other"))
    )
    rescued = Pair(
        "e1", "c1", "rescued", *(getattr(rescued, n) for n in ("without", "given", "response", "place", "other"))
    )
    kept = Pair("e2", "c2", "kept", harmed.without, harmed.given, harmed.response)
    examples = lens_of(loaded_of(model), [harmed, rescued, kept, changed])
    table = lens_estimates(examples)
    assert {g: set(rows["token"]) for g, rows in table.groupby("group")} == {
        "harmed": {"right", "wrong", "all"},
        "rescued": {"right", "wrong", "all"},
        "kept": {"right", "all"},
        "changed": {"without", "with", "all"},
    }
    mine = examples[
        (examples["group"] == "kept") & (examples["control"] == "none") & (examples["view"] == "with_context")
    ]
    last = mine[(mine["layer"] == 1) & (mine["site"] == "resid_post")]
    assert len(last) == len(kept.response) == 2
    row = table[
        (table["group"] == "kept")
        & (table["view"] == "with_context")
        & (table["layer"] == 1)
        & (table["control"] == "none")
        & (table["readout"] == "logprob")
        & (table["site"] == "resid_post")
    ]
    assert row["estimate"].item() == pytest.approx(last["logprob"].mean())
    assert row["low"].isna().item()  # one cluster has no interval
    # The rescued example's right token is the one that the view with the context says.
    of = table[(table["group"] == "rescued") & (table["readout"] == "logprob") & (table["layer"] == 1)]
    of = of[(of["site"] == "resid_post") & (of["control"] == "none") & (of["view"] == "no_context")].set_index(
        "token"
    )
    place = examples[(examples["group"] == "rescued") & examples["parts"] & (examples["control"] == "none")]
    place = place[(place["layer"] == 1) & (place["site"] == "resid_post") & (place["view"] == "no_context")].iloc[
        0
    ]
    assert of.loc["right", "estimate"] == pytest.approx(place["other_logprob"])
    assert of.loc["wrong", "estimate"] == pytest.approx(place["logprob"])
    apart = table[(table["readout"] == "difference") & (table["layer"] == 1) & (table["site"] == "resid_post")]
    apart = apart[(apart["control"] == "none") & (apart["view"] == "no_context")].set_index("group")["estimate"]
    assert apart["rescued"] == pytest.approx(place["other_logprob"] - place["logprob"])
    assert apart["harmed"] > 0  # its own token is what it says without the context
    assert "kept" not in apart


def test_only_the_place_is_looked_at_in_most_examples():
    model = planted()
    pairs = [
        Pair(f"e{i}", f"c{i}", "harmed", [2, 3, 10 + i % 6], [2, 9, 4, 3, 10 + i % 6], [10 + i % 6] * 2, 0, 5)
        for i in range(20)
    ]
    found = lens_of(loaded_of(model), pairs, controls=("none",))
    counts = found[(found["layer"] == 2) & (found["view"] == "no_context")].groupby("example_id").size()
    assert sorted(counts) == [1] * 4 + [2] * 16


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_equals_the_readout_of_transformer_lens(family):
    from transformer_lens.tools.analysis import logit_readout

    from cr_interp.capture.transformer_lens import bridge_of

    model = tiny_model(family, layers=2)
    states = torch.randn(5, model.config.hidden_size)
    targets = torch.tensor([3, 4, 5, 6, 7])
    theirs = logit_readout(bridge_of(model), states, targets=targets, return_type="log_probs")
    mine = read_off(model, states)
    each = torch.arange(5)
    torch.testing.assert_close(mine[each, targets], theirs.values[:, 0].float(), rtol=1e-4, atol=1e-4)
    ranks = (mine > mine[each, targets][:, None]).sum(-1)
    assert torch.equal(ranks, theirs.target_ranks[:, 0])


@pytest.mark.slow
def test_with_matrices_it_is_the_jacobian_lens_of_transformer_lens():
    from transformer_lens.tools.analysis import JacobianLens, logit_readout

    from cr_interp.capture.transformer_lens import bridge_of

    model = tiny_model("llama")
    torch.manual_seed(3)
    width = model.config.hidden_size
    theirs = JacobianLens({1: torch.randn(width, width)}, n_prompts=1, d_model=width)
    states, targets = torch.randn(4, width), torch.tensor([3, 4, 5, 6])
    expected = logit_readout(
        bridge_of(model), theirs.transport(states, 1), targets=targets, return_type="log_probs"
    )
    mine = read_off(model, states, theirs.jacobians[1])
    torch.testing.assert_close(
        mine[torch.arange(4), targets], expected.values[:, 0].float(), rtol=1e-4, atol=1e-4
    )


def test_a_jacobian_lens_has_its_own_layers_and_the_last():
    model = tiny_model("llama")
    pairs = some_pairs(model)
    torch.manual_seed(3)
    matrix = torch.randn(model.config.hidden_size, model.config.hidden_size)
    found = lens_of(loaded_of(model), pairs, controls=("none",), jacobians={0: matrix})
    assert set(zip(found["site"], found["layer"], strict=True)) == {("resid_post", 0), ("resid_post", 2)}
    site = Site("resid_post", 0)
    for pair in pairs:
        state = capture(model, build_view([pair.given], [pair.response], 0, 0), [site])[site]
        expected = read_off(model, state @ matrix.T)
        rows = found[
            (found["example_id"] == pair.example_id) & (found["view"] == "with_context") & (found["layer"] == 0)
        ]
        for row in rows.itertuples():
            mine = expected[row.position, pair.response[row.position]].item()
            assert row.logprob == pytest.approx(mine, rel=1e-3, abs=1e-3)
