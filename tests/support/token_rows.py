"""Rows of ``token_drift`` and readings known by hand."""

import numpy as np
import pandas as pd

from cr_interp.tables.token_view import Reading

HOSTILE = "<script>window.hit=1</script>"


def rows(tokens: list[str], cosine: dict[int, list[float]], kl: list[float], example: str = "e0") -> pd.DataFrame:
    """Rows of one arm's response; ``cosine[layer]`` with layer −1 for the embedding."""
    found = []
    for layer, values in cosine.items():
        for position, (token, value) in enumerate(zip(tokens, values, strict=True)):
            site = "resid_pre" if layer < 0 else "resid_post"
            found.append((example, position, token, site, max(layer, 0), value, 2 * (1 - value), np.nan))
    for position, (token, value) in enumerate(zip(tokens, kl, strict=True)):
        found.append((example, position, token, "output", -1, np.nan, np.nan, value))
    columns = ["example_id", "position", "token", "site", "layer", "cosine", "relative_l2", "kl"]
    return pd.DataFrame(found, columns=columns)


TWO = rows(["a", "b"], {-1: [1.0, 1.0], 0: [0.9, 0.7], 1: [0.5, 1.0000001]}, [0.01, 2.0])


def reading(arm: str, tokens: list[str], drift: float = 0.1) -> Reading:
    return Reading(arm, tokens, [0], np.full((1, len(tokens)), drift))
