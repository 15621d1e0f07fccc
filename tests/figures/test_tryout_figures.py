"""The drift of single responses says what it is: one response, no interval; and noise is not drawn as drift."""

import numpy as np
import pandas as pd
import pytest

from cr_interp.figures import alt_text, caption
from cr_interp.figures.tryout import LEAST_SPAN, response_drift


def layers(moved: float) -> pd.DataFrame:
    rows = []
    for arm, factor in (("base", 1.0), ("nca", 0.5)):
        for place in range(-1, 3):
            value = moved * factor * (place + 1)
            for measure, estimate in (("cosine", 1 - value), ("relative_l2", value)):
                rows.append(
                    {
                        "arm": arm,
                        "seed": 0,
                        "step": 0,
                        "site": "resid_pre" if place < 0 else "resid_post",
                        "layer": max(place, 0),
                        "measure": measure,
                        "control": "given",
                        "estimate": estimate,
                        "low": estimate - value / 9,
                        "high": estimate + value / 9,
                        "n_tokens": 7,
                        "n_examples": 1,
                    }
                )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("measure", ["cosine", "relative_l2"])
@pytest.mark.parametrize("movement", [False, True])
def test_it_says_what_it_shows(measure, movement):
    figure = response_drift(layers(0.1), measure, movement, place=1)
    curves = {trace.name: trace for trace in figure.data if trace.name}
    assert set(curves) == {"base", "nca"}
    assert "not a confidence interval" in caption(figure)
    assert "n = 7 tokens of 1 prompt" in caption(figure)
    assert ("float noise" in caption(figure)) == movement
    assert "base: " in alt_text(figure)
    assert any(mark.text == "layer 1" for mark in figure.layout.annotations)


@pytest.mark.parametrize("measure", ["cosine", "relative_l2"])
def test_nothing_moves(measure):
    low, high = response_drift(layers(1e-16), measure).layout.yaxis.range
    assert np.isclose(high - low, LEAST_SPAN)
    assert low <= (1 if measure == "cosine" else 0) <= high
    assert response_drift(layers(0.1), measure).layout.yaxis.range is None
    assert not [x for x in response_drift(layers(0.0), measure, True).data if x.name and len(x.x)]
