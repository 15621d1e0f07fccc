"""A changed model's answers against plain full forwards with hooks, and on a model whose deciding place was written by hand."""

import pytest
import torch
from tiny import tiny

from cr_interp.capture.sites import Site, hook_point
from cr_interp.errors import UserError
from cr_interp.mechanism.intervene import Block, PutIn, Steer, difference, intervene
from cr_interp.mechanism.spans import context_span
from cr_interp.models.generation import Response, decode_text
from cr_interp.views import Context, render

CONTEXT = Context.system("repeat the text")
TOKENS = 4


@pytest.fixture(scope="module")
def loaded():
    made = tiny(seed=3)
    made.model.set_attn_implementation("eager")
    return made


def views(loaded):
    return render(loaded.tokenizer, "abcd"), render(loaded.tokenizer, "abcd", CONTEXT)


def loop(loaded, ids, hooks):
    """Greedy by full forwards; ``hooks``: module → (register, hook)."""
    said = []
    for _ in range(TOKENS):
        handles = [getattr(module, how)(hook, **more) for module, how, hook, more in hooks(said)]
        with torch.no_grad():
            said.append(int(loaded.model(input_ids=torch.tensor([[*ids, *said]])).logits[0, -1].argmax()))
        for handle in handles:
            handle.remove()
        if said[-1] in loaded.eos_ids:
            break
    return said


def text(loaded, said):
    return decode_text(loaded, Response(tuple(said), said[-1] not in loaded.eos_ids))


@pytest.mark.parametrize("readers", ["aligned", "all"])
def test_the_context_is_not_read_in_these_layers(loaded, readers):
    without, given = views(loaded)
    span = list(context_span(without, given))

    def hooks(said):
        def hide(_module, args, kwargs):
            mask = kwargs["attention_mask"].clone()
            for query in range(mask.shape[-2]):
                if (query >= len(given) - 1) if readers == "aligned" else query not in span:
                    mask[0, 0, query, [key for key in span if key != query]] = torch.finfo(mask.dtype).min
            return args, {**kwargs, "attention_mask": mask}

        return [
            (loaded.model.model.layers[1].self_attn, "register_forward_pre_hook", hide, {"with_kwargs": True})
        ]

    found = intervene(loaded, "abcd", CONTEXT, Block([1], readers=readers), TOKENS)
    assert found.edited.text == text(loaded, loop(loaded, given, hooks))
    assert found.given.text == text(loaded, loop(loaded, given, lambda said: []))
    assert found.without.text == text(loaded, loop(loaded, without, lambda said: []))


@pytest.mark.parametrize("head", [None, 3])
def test_the_state_of_a_head_is_put_in(loaded, head):
    without, given = views(loaded)
    module, _ = hook_point(loaded.model, Site("z", 1))
    units = slice(None) if head is None else slice(head * 8, head * 8 + 8)

    def hooks(said):
        kept = []
        handle = module.register_forward_pre_hook(lambda _m, args: kept.append(args[0].clone()))
        with torch.no_grad():
            loaded.model(input_ids=torch.tensor([[*without, *said]]))
        handle.remove()

        def put(_module, args):
            state = args[0].clone()
            state[:, len(given) - 1 :, units] = kept[0][:, len(without) - 1 :, units]
            return (state,)

        return [(module, "register_forward_pre_hook", put, {})]

    found = intervene(loaded, "abcd", CONTEXT, PutIn("z", [1], head), TOKENS)
    assert found.edited.text == text(loaded, loop(loaded, given, hooks))


def test_all_of_the_last_layers_state_is_the_other_views_answer(loaded):
    found = intervene(loaded, "abcd", CONTEXT, PutIn("resid_post", [1]), TOKENS)
    assert found.edited == found.without
    assert found.said == "resid_post without the context put into layer 1"


@pytest.mark.parametrize("remove", [False, True])
def test_a_direction_is_added_or_taken_out(loaded, remove):
    _, given = views(loaded)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 3
    unit = vector / vector.norm()

    def hooks(said):
        def change(_module, _args, output):
            state = output.clone()
            mine = state[:, len(given) - 1 :]
            state[:, len(given) - 1 :] = mine - (mine @ unit)[..., None] * unit if remove else mine + 2 * vector
            return state

        return [(loaded.model.model.layers[0], "register_forward_hook", change, {})]

    found = intervene(loaded, "abcd", CONTEXT, Steer(0, vector, 2.0, remove=remove), TOKENS)
    assert found.edited.text == text(loaded, loop(loaded, given, hooks))


def test_the_difference_is_that_of_the_prompts_last_tokens(loaded):
    found = difference(loaded, ["abcd", "hg"], CONTEXT, "resid_post", 0)
    sums = 0
    for prompt in ("abcd", "hg"):
        for sign, context in ((1, CONTEXT), (-1, None)):
            with torch.no_grad():
                ids = torch.tensor([render(loaded.tokenizer, prompt, context)])
                sums = (
                    sums + sign * loaded.model(input_ids=ids, output_hidden_states=True).hidden_states[1][0, -1]
                )
    torch.testing.assert_close(found, sums / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (PutIn("resid_post", [7]), "There is no site resid_post at layer 7"),
        (PutIn("z", [1], 9), "There is no head 9 at z"),
        (PutIn("attn_out", [1], 0), "There is no head 0 at attn_out"),
        (PutIn("attn_out", []), "No layer was given"),
        (Block([0], "turns"), "no span of this prompt 'turns'"),
        (Steer(0, torch.ones(5)), "has 32 numbers; found .5,."),
    ],
)
def test_what_there_is_not_is_said(loaded, change, said):
    with pytest.raises(UserError, match=said):
        intervene(loaded, "abcd", CONTEXT, change, TOKENS)
