"""Groups of sequences that share a prefix: which, and that they change no number."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny

from cr_interp.models.forward import build_view, hidden_states
from cr_interp.models.grouping import put_together, sharing

A, B = list(range(5, 45)), list(range(45, 5, -1))


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=9))
def test_every_sequence_is_in_one_group(sequences):
    groups = sharing(sequences, least=2)
    assert sorted(place for group in groups for place in group) == list(range(len(sequences)))


def test_what_shares_little_stays_together():
    assert sharing([[*A, 1], [*A, 2], [*B, 1], [*B, 2], [7]]) == [[0, 1], [2, 3], [4]]
    assert sharing([[*A, i] for i in range(5)]) == [[0, 1, 2, 3, 4]], "one context for all is one group"
    assert sharing([A, B, [7] * 40, [8] * 40]) == [[0, 1, 2, 3]]
    assert sharing([[*A[:33], *B], [*A[:33], *A], *([[i] * 400] for i in (1, 2))][:2]) == [[0, 1]]
    long = [[i] * 400 for i in (1, 2, 3)]
    assert sharing([[*A, 1], [*A, 2], *long]) == [[0, 1, 2, 3, 4]], "40 of 1200 tokens are not worth a forward"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_states_are_those_of_one_view(family):
    loaded = tiny(family)
    prompts = [[*A, 9], [*B, 3, 4], [*A, 8, 8], [*B, 6]]
    answers = [[5, 1], [7], [9, 9, 1], [4]]
    groups = sharing(prompts)
    assert groups == [[0, 2], [1, 3]]

    def states(rows):
        view = build_view([prompts[i] for i in rows], [answers[i] for i in rows], loaded.pad_id)
        return hidden_states(loaded.model, view)

    with torch.no_grad():
        whole = states([0, 1, 2, 3])
        apart = put_together(groups, list(map(len, answers)), [states(group) for group in groups])
    torch.testing.assert_close(apart, whole, rtol=1e-4, atol=1e-4)
