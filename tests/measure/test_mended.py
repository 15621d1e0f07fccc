"""An answer under an edit: equal to the two plain answers where the edit decides all or nothing, and to a hook by hand."""

import pytest
import torch

from cr_interp.capture import capture
from cr_interp.capture.sites import Site, blocks
from cr_interp.errors import UserError
from cr_interp.measure.mended import Put, Steer, context_direction, mended, site_of
from cr_interp.measure.tryout import try_out
from cr_interp.models.forward import build_view
from cr_interp.views import Context, render

CONTEXT = Context.system("write the next letter for each")
PROMPT = "dabcp"


@pytest.fixture(scope="module")
def tried(organism):
    return try_out(organism, PROMPT, CONTEXT, 8)


def test_the_last_layers_state_is_the_whole_answer_and_the_embedding_is_none_of_it(organism, tried):
    last = len(blocks(organism.model)) - 1
    assert tried.without.text != tried.given.text
    assert mended(organism, PROMPT, CONTEXT, Put(last), 8) == tried.without
    assert mended(organism, PROMPT, CONTEXT, Put(-1), 8) == tried.given


def test_adding_nothing_changes_nothing_and_a_huge_vector_something(organism, tried):
    width = organism.model.config.hidden_size
    torch.manual_seed(0)
    vector = torch.randn(width)
    assert mended(organism, PROMPT, CONTEXT, Steer(1, vector, 0.0), 8) == tried.given
    assert mended(organism, PROMPT, CONTEXT, Steer(1, 1e3 * vector), 8) != tried.given


def test_the_first_token_is_that_of_a_forward_with_a_hook(organism):
    """By hand: one sequence, no prefix, a plain forward hook at the prompt's last token."""
    without, given = (render(organism.tokenizer, PROMPT, each, "empty_system") for each in (None, CONTEXT))
    layer = 1
    donor = capture(organism.model, build_view([without], [[0]], organism.pad_id, 0), [Site("resid_post", layer)])
    state = donor[Site("resid_post", layer)][0]

    def hook(module, inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        first[0, -1] = state
        return output

    handle = blocks(organism.model)[layer].register_forward_hook(hook)
    try:
        with torch.no_grad():
            scores = organism.model(input_ids=torch.tensor([given])).logits[0, -1]
    finally:
        handle.remove()
    answer = mended(organism, PROMPT, CONTEXT, Put(layer), 1)
    assert answer.n_tokens == 1
    expected = int(scores.argmax())
    assert answer.truncated == (expected not in organism.eos_ids)
    if expected not in organism.eos_ids:
        assert answer.text == organism.tokenizer.decode([expected], skip_special_tokens=True)


def test_the_direction_is_the_mean_movement_of_other_prompts(organism):
    prompts = ["abc", "dea"]
    vector = context_direction(organism, prompts, CONTEXT, 1)
    moved = []
    for prompt in prompts:
        both = [render(organism.tokenizer, prompt, each, "empty_system") for each in (None, CONTEXT)]
        x, y = (
            capture(organism.model, build_view([ids], [[0]], organism.pad_id), [site_of(1)])[site_of(1)][0]
            for ids in both
        )
        moved.append(y - x)
    torch.testing.assert_close(vector, torch.stack(moved).mean(0))
    with pytest.raises(UserError, match="mean over other prompts"):
        context_direction(organism, [], CONTEXT, 1)


def test_what_does_not_fit_is_said(organism):
    with pytest.raises(UserError, match="positions"):
        mended(organism, "abcd" * 200, CONTEXT, Put(1), 8)
