"""Cuts of attention against masks that are written out by hand, one sequence at a time, and the weights that are left."""

import pytest
import torch
from tiny import ARCHITECTURES, WINDOW, tiny_model

from cr_interp.capture import Cut, capture
from cr_interp.capture.attention import eager, weights
from cr_interp.capture.sites import Site
from cr_interp.errors import UserError
from cr_interp.models.forward import build_view, encode_prefix, run

#: Behind a prefix of seven tokens: what comes before the context, the context, and what comes behind it.
BEFORE, CONTEXT, BEHIND = [2, 3], [40, 41, 42, 43], [4]
PROMPTS = [[*BEFORE, *CONTEXT, *BEHIND, *own] for own in ([5, 6, 7], [8], [9, 10, 11, 12, 13])]
RESPONSES = [[20, 21], [22, 23, 24], [25]]
SPAN = range(len(BEFORE), len(BEFORE) + len(CONTEXT))
FINAL = Site("final", -1)


def cut_of(view, layers, everyone, span=SPAN):
    """The context cut off: from everyone behind it, or from the aligned positions alone."""
    start = len(view.prefix)
    shape = (len(view.ids), start + view.ids.shape[1])
    keys, readers = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    keys[:, list(span)] = True  # all of it lies in the prefix
    if everyone:
        readers[:, :start] = True
        readers[:, start:] = view.mask
    readers[view.rows, start + view.columns] = True
    return Cut(frozenset(layers), readers & ~keys if everyone else readers, keys)


def by_hand(model, prompt, response, everyone, positions=None):
    """Final states of one whole sequence in which a mask, written entry by entry, hides the context in all layers."""
    ids = [*prompt, *response[:-1]]
    n, asked = len(ids), range(len(prompt) - 1, len(ids))
    window = getattr(model.config, "sliding_window", None)
    masks = {
        kind: torch.full((1, 1, n, n), torch.finfo(torch.float32).min)
        for kind in ("full_attention", "sliding_attention")
    }
    for q in range(n):
        for k in range(q + 1):
            hidden = k in SPAN and q not in SPAN if everyone else k in SPAN and q in asked
            if not hidden:
                masks["full_attention"][0, 0, q, k] = 0
                if window is None or q - k < window:
                    masks["sliding_attention"][0, 0, q, k] = 0
    kinds = getattr(model.config, "layer_types", None)
    mask = masks if kinds else masks["sliding_attention" if window else "full_attention"]
    with torch.no_grad():
        return model.base_model(input_ids=torch.tensor([ids]), attention_mask=mask).last_hidden_state[
            0, list(asked)
        ]


@pytest.mark.parametrize("everyone", [False, True])
@pytest.mark.parametrize("family", [*ARCHITECTURES])
def test_equals_a_mask_written_by_hand_one_sequence_at_a_time(family, everyone):
    model = tiny_model(family, layers=2)
    expected = torch.cat([by_hand(model, p, r, everyone) for p, r in zip(PROMPTS, RESPONSES, strict=True)])
    for padding in ("right", "left"):
        view = build_view(PROMPTS, RESPONSES, 0, padding=padding)
        assert len(view.prefix) == 7
        found = capture(model, view, [FINAL], cut=cut_of(view, {0, 1}, everyone))[FINAL]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2"])
def test_without_everything_is_the_view_without_context_with_a_gap_in_its_positions(family):
    model = tiny_model(family, layers=2, attention="sdpa")
    view = build_view(PROMPTS, RESPONSES, 0)
    found = capture(model, view, [FINAL], cut=cut_of(view, {0, 1}, everyone=True))[FINAL]
    assert model.config._attn_implementation == "sdpa"  # as it was
    for gap, equal in ((len(CONTEXT), True), (0, False)):
        expected = []
        for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
            without = [*BEFORE, *prompt[SPAN.stop :], *response[:-1]]
            at = [i if i < len(BEFORE) else i + gap for i in range(len(without))]
            with torch.no_grad():
                states = model.base_model(
                    input_ids=torch.tensor([without]), position_ids=torch.tensor([at])
                ).last_hidden_state[0]
            expected.append(states[-len(response) :])
        assert torch.allclose(found, torch.cat(expected), rtol=1e-3, atol=1e-3) == equal


def test_rows_that_are_cut_unlike_each_other_in_the_prefix_are_run_whole():
    model = tiny_model("llama", layers=2)
    view = build_view(PROMPTS, RESPONSES, 0)
    cut = cut_of(view, {0, 1}, everyone=True)
    readers = cut.readers.clone()
    readers[1] = False  # the second row is left as it is
    found = capture(model, view, [FINAL], cut=Cut(cut.layers, readers, cut.keys))[FINAL]
    usual, all_cut = (capture(model, view, [FINAL], cut=each)[FINAL] for each in (None, cut))
    torch.testing.assert_close(
        found, torch.where((view.rows == 1)[:, None], usual, all_cut), rtol=1e-4, atol=1e-4
    )


def test_the_weights_of_what_is_cut_are_zero_and_a_row_sums_to_one():
    model = tiny_model("llama", layers=2)
    view = build_view(PROMPTS, RESPONSES, 0)
    seen = {}
    with eager(model), weights(model, lambda layer, found: seen.__setitem__(layer, found)), torch.no_grad():
        run(
            model,
            encode_prefix(model, []),
            torch.tensor([PROMPTS[0]]),
            torch.ones(1, len(PROMPTS[0]), dtype=torch.bool),
        )
    assert sorted(seen) == [0, 1]
    torch.testing.assert_close(seen[1].sum(-1), torch.ones_like(seen[1].sum(-1)))
    assert (seen[0].triu(1) == 0).all()
    assert len(view.prefix) == 7


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nnsight", "transformer_lens"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "phi3"])
def test_the_other_backends_cut_alike(family, backend):
    model = tiny_model(family, layers=2)
    view = build_view(PROMPTS, RESPONSES, 0)
    sites = [Site("resid_post", 0), Site("attn_out", 1), FINAL]
    for everyone in (False, True):
        cut = cut_of(view, {1}, everyone)
        mine = capture(model, view, sites, cut=cut)
        theirs = capture(model, view, sites, backend=backend, cut=cut)
        usual = capture(model, view, sites)
        for site in sites:
            torch.testing.assert_close(theirs[site], mine[site], rtol=1e-4, atol=1e-4)
        assert torch.equal(usual[sites[0]], mine[sites[0]]) or everyone
        assert not torch.allclose(usual[FINAL], mine[FINAL], atol=1e-3)


def test_what_cannot_be_cut_is_refused_in_a_sentence():
    model = tiny_model("llama", layers=2)
    view = build_view(PROMPTS, RESPONSES, 0)
    cut = cut_of(view, {0}, everyone=False)
    with pytest.raises(UserError, match="no site resid_post at layer 7"):
        capture(model, view, [FINAL], cut=Cut(frozenset({7}), cut.readers, cut.keys))
    with pytest.raises(UserError, match=r"for \(3, \d+\) \(batch, columns\); found \(3, 2\)"):
        capture(model, view, [FINAL], cut=Cut(cut.layers, cut.readers[:, :2], cut.keys))
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="attends through 'flash_attention_2', which has no attention weights"):
        capture(model, view, [FINAL], cut=cut)


def test_sliding_windows_are_shorter_than_these_sequences():
    assert min(len(p) + len(r) - 1 for p, r in zip(PROMPTS, RESPONSES, strict=True)) > WINDOW
