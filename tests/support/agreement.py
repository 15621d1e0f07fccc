"""What the tests of capture share: do two captures show the same states, and one edit of every kind."""

import torch

from cr_interp.capture import ablate, steer
from cr_interp.capture.sites import Site, available

LIMIT = 1e-5


def difference(found, expected):
    """The largest relative difference over sites, and where."""
    assert list(found) == list(expected)
    return max(
        (((found[s].float() - e.float()).norm() / e.float().norm().clamp_min(1e-20)).item(), str(s))
        for s, e in expected.items()
    )


def assert_same(found, expected, limit=LIMIT):
    worst = difference(found, expected)
    assert worst[0] <= limit, worst


def edits_of(model):
    """One of everything, early enough that later layers show it."""
    width = model.config.get_text_config().hidden_size
    generator = torch.Generator().manual_seed(1)
    edits = {
        Site("resid_pre", 0): steer(torch.randn(width, generator=generator), 0.3),
        Site("z", 0): ablate(slice(0, 8)),
        Site("mlp_out", 0): ablate(),
        Site("attn_out", 1): lambda state: 2 * state,
        Site("resid_post", 1): steer(torch.randn(width, generator=generator)),
        Site("final", -1): lambda state: state + 1,
    }
    if "resid_mid" in available(model):
        edits[Site("resid_mid", 1)] = steer(torch.randn(width, generator=generator), 2.0)
    return edits
