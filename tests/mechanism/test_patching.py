"""Patching against a plain forward with a hook, and on a model whose deciding place was written by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_model

from cr_interp.capture.sites import Site, hook_point
from cr_interp.errors import UserError
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.patching import DIRECTIONS, patch_pairs, patched_sites
from cr_interp.models.loading import Loaded
from cr_interp.views import aligned_positions


class Tokenless:
    """Pads with 0 and ends with nothing: ids are given as they are."""

    pad_token_id, eos_token_id = 0, None


def loaded_of(model) -> Loaded:
    return Loaded("tiny", model, Tokenless())


def greedy(model, prompt, n):
    ids = list(prompt)
    for _ in range(n):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def some_pairs(model, seed=0):
    """Five prompts of unequal lengths, the context seven more ids, and what the model really answers."""
    generator = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(2, 64, (n,), generator=generator).tolist()

    start, context = ids(3), ids(7)
    pairs = []
    for i, (length, tokens) in enumerate(((4, 3), (6, 2), (5, 4), (3, 1), (6, 3))):
        prompt = ids(length)
        without, given = start + prompt, start + context + prompt
        answer = greedy(model, without, tokens)
        place = i % tokens
        other = (answer[place] + 5) % 64
        pairs.append(Pair(f"e{i}", f"c{i}", "harmed", without, given, answer, place, other))
    return pairs


def plain(model, pair, site, direction):
    """One sequence at a time through the library's own forward: no pads, no prefix, no shortcut."""
    donor, receiver = (
        {"no_context": pair.without, "with_context": pair.given}[view] for view in DIRECTIONS[direction]
    )
    module, side = hook_point(model, site)

    def columns(prompt):
        return list(aligned_positions(len(prompt), len(pair.response)))

    def run(prompt, hook):
        register = module.register_forward_pre_hook if side == "input" else module.register_forward_hook
        handle = register(hook)
        try:
            with torch.no_grad():
                ids = torch.tensor([[*prompt, *pair.response[:-1]]])
                return model(input_ids=ids).logits[0, columns(prompt)]
        finally:
            handle.remove()

    kept = []

    def state_of(args):
        state = args[0] if side == "input" else args[-1]
        return state[0] if isinstance(state, tuple) else state

    def keep(_module, *args):
        kept.append(state_of(args[0] if side == "input" else args)[0, columns(donor)].clone())

    def put(_module, *args):
        whole = args[0] if side == "input" else args[-1]
        state = state_of(args[0] if side == "input" else args).clone()
        state[0, columns(receiver)] = kept[0]
        return (state, *whole[1:]) if isinstance(whole, tuple) else state

    given, received = run(donor, keep), run(receiver, lambda *_: None)
    patched = run(receiver, put)
    answer = torch.tensor(pair.response)
    row = {
        name: (scores[pair.place, pair.own] - scores[pair.place, pair.other]).item()
        for name, scores in (("received", received), ("given", given), ("patched", patched))
    }
    whole = bool((patched.argmax(-1) == answer).all())
    return {**row, "answer": whole if direction == "repair" else not whole}


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2"])
def test_equals_a_plain_forward_with_a_hook_one_sequence_at_a_time(family, padding):
    model = tiny_model(family)
    pairs, loaded = some_pairs(model), loaded_of(model)
    sites = patched_sites(loaded, ["resid_post", "attn_out", "mlp_out"])
    found = patch_pairs(loaded, pairs, sites, controls=("none",), batch_size=3, padding=padding)
    assert len(found) == len(pairs) * len(sites) * 2
    by = found.set_index(["example_id", "direction", "site", "layer"])
    for pair in pairs:
        for site in sites:
            for direction in DIRECTIONS:
                row, expected = (
                    by.loc[(pair.example_id, direction, site.name, site.layer)],
                    plain(model, pair, site, direction),
                )
                for name in ("received", "given", "patched"):
                    assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=2e-4)
                assert row["answer"] == expected["answer"]


def planted(layer=1, width=32):
    """A Llama of three layers that repeats its last token, unless the attention of one layer sees the id 9: then it says 5.

    Embedding and head are the identity, queries and keys and all other weights are 0: attention is the mean of what it
    sees, and only layer ``layer`` reads (the feature "is id 9") and writes ("say 5") anything.
    """
    model = tiny_model("llama", layers=3, vocab_size=width, hidden_size=width, tie_word_embeddings=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0) if "norm" in name else parameter.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(width))
        model.lm_head.weight.copy_(torch.eye(width))
        attention = model.model.layers[layer].self_attn
        attention.v_proj.weight[0, 9] = 1.0
        attention.o_proj.weight[5, 0] = 100.0
    return model


def planted_pairs():
    """Every prompt ends in the id that it answers with; the context is one id 9."""
    return [
        Pair(f"e{i}", f"c{i}", "harmed", [2, 3, i], [2, 9, 3, i], [i], 0, 5) for i in (10, 11, 12, 13, 14, 15)
    ]


def test_finds_the_planted_place_and_only_it():
    loaded = loaded_of(planted(layer=1))
    sites = patched_sites(loaded, ["resid_post", "attn_out", "mlp_out"])
    found = patch_pairs(loaded, planted_pairs(), sites)
    real = found[found["control"] == "none"]
    decides = {("attn_out", 1), ("resid_post", 1), ("resid_post", 2)}
    for (direction, site, layer), rows in real.groupby(["direction", "site", "layer"]):
        share = (rows["patched"] - rows["received"]) / (rows["given"] - rows["received"])
        expected = 1.0 if (site, layer) in decides else 0.0
        np.testing.assert_allclose(share, expected, atol=1e-5, err_msg=f"{direction} {site} {layer}")
        assert (rows["answer"] == ((site, layer) in decides)).all()
    # Another example's attention says just as little of id 9: it repairs too, as nothing of it is the example's own.
    attention = found[(found["site"] == "attn_out") & (found["layer"] == 1) & (found["direction"] == "repair")]
    assert attention.loc[attention["control"] == "other", "answer"].all()
    # The other example's residual stream holds the other example's token.
    other = found[(found["site"] == "resid_post") & (found["layer"] == 1) & (found["direction"] == "repair")]
    assert not other.loc[other["control"] == "other", "answer"].any()


def test_a_random_direction_is_as_far_and_repairs_nothing():
    found = patch_pairs(loaded_of(planted()), planted_pairs(), [Site("attn_out", 1)])
    random = found[(found["control"] == "random") & (found["direction"] == "repair")]
    share = (random["patched"] - random["received"]) / (random["given"] - random["received"])
    assert share.abs().max() < 0.9
    assert not random["answer"].any()


def test_rows_of_an_example_do_not_depend_on_its_batch():
    model = tiny_model("llama")
    pairs, loaded = some_pairs(model), loaded_of(model)
    sites = [Site("resid_post", 1), Site("attn_out", 2)]
    one = patch_pairs(loaded, pairs, sites, controls=("none", "random"), batch_size=5)
    other = patch_pairs(loaded, pairs, sites, controls=("none", "random"), batch_size=1)
    keys = ["example_id", "direction", "site", "layer", "control"]
    one, other = (frame.sort_values(keys, ignore_index=True) for frame in (one, other))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-4)


def test_another_examples_state_is_of_another_cluster():
    pairs = [pair for pair in planted_pairs()]
    pairs[1] = Pair("e11", "c10", "harmed", [2, 3, 11], [2, 9, 3, 11], [11], 0, 5)
    found = patch_pairs(loaded_of(planted()), pairs[:2], [Site("attn_out", 1)])
    assert set(found["control"]) == {"none", "random"}  # both are of one cluster: there is no other
    found = patch_pairs(loaded_of(planted()), pairs[:3], [Site("attn_out", 1)])
    assert (found["control"] == "other").sum() == 6


def test_answers_of_another_checkpoint_are_refused():
    pairs = [Pair(f"e{i}", f"c{i}", "harmed", [2, 3, i], [2, 9, 3, i], [7], 0, 5) for i in (10, 11, 12)]
    with pytest.raises(UserError, match="3 of 3 answers without the context are not what tiny decodes greedily"):
        patch_pairs(loaded_of(planted()), pairs, [Site("attn_out", 1)])


def test_a_site_that_the_model_lacks_is_named():
    with pytest.raises(UserError, match="There is no site resid_mid"):
        patched_sites(loaded_of(tiny_model("gpt_neox")), ["resid_mid"])
