"""The logit lens on what somebody has just tried: where two answers to one prompt part, what every layer would say.

Mental model: greedy answers without and with the context agree up to a token. There the model's own final norm and head are put
on every layer's state, in both views, and say how likely each of the two tokens is: the layer at which they change places is
where the answer turns.
"""

from collections.abc import Sequence

import pandas as pd
import torch

from cr_interp.capture import capture, model_lock
from cr_interp.capture.sites import residual_sites
from cr_interp.mechanism.lens import read_off
from cr_interp.models.layout import build_view
from cr_interp.models.loading import Loaded
from cr_interp.views import Context, NoContext, render
from cr_interp.vocabulary import place_of


@torch.no_grad()
def parting(
    loaded: Loaded,
    prompt: str,
    context: Context,
    responses: tuple[Sequence[int], Sequence[int]],
    no_context: NoContext = "empty_system",
) -> pd.DataFrame:
    """Return the logit lens where two answers part: a row per layer, view and token.

    ``responses``: the ids without and with the context. Columns ``layer`` (−1: the embedding), ``view``, ``token``
    (``without``: of the answer without the context; ``with``), ``text``, ``logprob``. Empty where the answers do not part.
    """
    columns = ["layer", "view", "token", "text", "logprob"]
    pairs = list(zip(*responses, strict=False))
    place = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
    if place is None:
        return pd.DataFrame(columns=columns)
    tokens = {"without": int(responses[0][place]), "with": int(responses[1][place])}
    texts = {name: str(loaded.tokenizer.decode([token])) for name, token in tokens.items()}
    sites = residual_sites(loaded.model)
    rows = []
    with model_lock(loaded.model):
        for view, given in (("no_context", None), ("with_context", context)):
            ids = render(loaded.tokenizer, prompt, given, no_context)
            states = capture(loaded.model, build_view([ids], [[*responses[0][:place], 0]], loaded.pad_id), sites)
            for site in sites:
                said = read_off(loaded.model, states[site][-1:])[0]
                layer = place_of(site.name, site.layer)
                rows += [(layer, view, name, texts[name], float(said[token])) for name, token in tokens.items()]
    return pd.DataFrame(rows, columns=columns)
