"""Decoding with edits against a plain loop: the whole sequence again for every token, one prompt at a time, with hooks."""

import pytest
import torch
from patched import loaded_of
from tiny import tiny_model
from zoo import zoo_model

from cr_interp.capture.decoding import answering, generate
from cr_interp.capture.edits import ablate, steer
from cr_interp.capture.sites import Site, hook_point
from cr_interp.errors import UserError
from cr_interp.models.generation import Decoding

TOKENS = 5


def prompts(seed=0):
    """Four prompts of unequal lengths that begin alike, and the same with a context of unequal lengths in front."""
    generator = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(2, 60, (n,), generator=generator).tolist()

    start, context = ids(3), ids(6)
    ends = [ids(n) for n in (4, 2, 5, 4)]
    return [start + end for end in ends], [start + context + end for end in ends]


def with_hooks(model, ids, hooks):
    handles = []
    for site, function in hooks.items():
        module, side = hook_point(model, site)

        def hook(_module, *args, function=function):
            whole = args[-1]
            state = function(whole[0] if isinstance(whole, tuple) else whole)
            return (state, *whole[1:]) if isinstance(whole, tuple) else state

        register = module.register_forward_pre_hook if side == "input" else module.register_forward_hook
        handles.append(register(hook))
    try:
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


def loop(model, prompt, edits, put=(), donor=None):
    """Greedy answers by full forwards."""
    said = []
    for _ in range(TOKENS):
        hooks = {}
        for site, (edit, everywhere) in edits.items():

            def edited(state, edit=edit, everywhere=everywhere):
                changed, first = state.clone(), 0 if everywhere else len(prompt) - 1
                changed[:, first:] = edit(state[:, first:])
                return changed

            hooks[site] = edited
        for site in put:
            kept = []
            with_hooks(
                model, [*donor, *said], {site: lambda state, kept=kept: kept.append(state.clone()) or state}
            )

            new = kept[0][:, len(donor) - 1 :]

            def replaced(state, new=new):
                changed = state.clone()
                changed[:, len(prompt) - 1 :] = new
                return changed

            hooks[site] = replaced
        said.append(int(with_hooks(model, [*prompt, *said], hooks).argmax()))
    return said


def model_of(family):
    return zoo_model(family) if family in ("bloom", "mamba") else tiny_model(family)


FAMILIES = ["llama", "gpt2", pytest.param("gemma2", marks=pytest.mark.slow), "bloom", "mamba"]


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_edited_answers_are_those_of_full_forwards_with_hooks(family, everywhere):
    model = model_of(family)
    _, given = prompts()
    add = steer(3 * torch.randn(32, generator=torch.Generator().manual_seed(1)))
    edits = (
        {Site("resid_post", 1): add}
        if family in ("bloom", "mamba")
        else {Site("resid_post", 1): add, Site("attn_out", 0): ablate(), Site("z", 2): ablate(slice(0, 8))}
    )
    found = generate(
        loaded_of(model),
        given,
        Decoding(TOKENS),
        {site: edit if everywhere else answering(edit) for site, edit in edits.items()},
    )
    plain = generate(loaded_of(model), given, Decoding(TOKENS))
    expected = [
        loop(model, prompt, {site: (edit, everywhere) for site, edit in edits.items()}) for prompt in given
    ]
    assert [list(each.ids) for each in found] == expected
    assert [each.ids for each in plain] != [each.ids for each in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_views_states_are_put_in_wherever_the_answer_comes_from(family):
    model = model_of(family)
    without, given = prompts()
    sites = (
        [Site("resid_post", 1)] if family in ("bloom", "mamba") else [Site("attn_out", 0), Site("resid_post", 1)]
    )
    found = generate(loaded_of(model), given, Decoding(TOKENS), put=sites, donors=without)
    expected = [loop(model, prompt, {}, sites, donor) for prompt, donor in zip(given, without, strict=True)]
    assert [list(each.ids) for each in found] == expected
    # All the way down, nothing of the view's own is left.
    last = [Site("resid_post", len(model.base_model.layers) - 1)] if family == "llama" else []
    if last:
        repaired = generate(loaded_of(model), given, Decoding(TOKENS), put=last, donors=without)
        assert [each.ids for each in repaired] == [
            each.ids for each in generate(loaded_of(model), without, Decoding(TOKENS))
        ]


def test_what_cannot_be_done_is_said():
    loaded = loaded_of(tiny_model("gpt_neox"))
    without, given = prompts()
    with pytest.raises(UserError, match="donor for each of 4 prompts; found 3"):
        generate(loaded, given, Decoding(2), put=[Site("attn_out", 0)], donors=without[:3])
    with pytest.raises(UserError, match="There is no site resid_mid"):
        generate(loaded, given, Decoding(2), {Site("resid_mid", 0): ablate()})
