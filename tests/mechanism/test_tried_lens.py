"""The lens where two answers part: it ends where the model does."""

import pytest
import torch

from cr_interp.measure.tryout import try_out
from cr_interp.mechanism.tried_lens import parting
from cr_interp.views import Context, render

CONTEXT = Context.system("write the next letter for each")
PROMPT = "dabcp"


def test_the_lens_ends_where_the_model_does(organism):
    tried = try_out(organism, PROMPT, CONTEXT, 8)
    rows = parting(organism, PROMPT, CONTEXT, tried.responses)
    last = rows[rows["layer"] == rows["layer"].max()].set_index(["view", "token"])["logprob"]
    # Greedy: behind the last layer each view puts its own answer's token first.
    assert last["no_context", "without"] > last["no_context", "with"]
    assert last["with_context", "with"] > last["with_context", "without"]
    place = next(i for i, (a, b) in enumerate(zip(*tried.responses, strict=False)) if a != b)
    ids = render(organism.tokenizer, PROMPT, None, "empty_system")
    with torch.no_grad():
        scores = (
            organism.model(input_ids=torch.tensor([[*ids, *tried.responses[0][:place]]]))
            .logits[0, -1]
            .log_softmax(-1)
        )
    assert last["no_context", "without"] == pytest.approx(float(scores[tried.responses[0][place]]), abs=1e-4)
    assert parting(organism, PROMPT, CONTEXT, ((1, 2), (1, 2))).empty
