"""Studies are continued and compared by their bits: the default path computes what it computed when they were made."""

import pytest
import torch

from training.objectives import ARMS, arm_terms
from training.run.losses import Whole, losses


def old_losses(terms, log_p, owner, reduction):
    """The formula that the first studies were made with, as it was written."""
    total = log_p["q_x"].new_zeros(())
    for term in terms:
        p, q = log_p[term.p], log_p[term.q]
        p = p.detach() if term.stop_p or term.p == "f" else p
        q = q.detach() if term.stop_q or term.q == "f" else q
        per_token = (p.exp() * (p - q)).sum(-1)
        if reduction == "token_mean":
            value = per_token.mean()
        else:
            sums = per_token.new_zeros(int(owner.max()) + 1).index_add(0, owner, per_token)
            counts = torch.bincount(owner).clamp(min=1)
            value = (sums / counts).sum() / (counts > 0).sum()
        total = total + term.weight * value
    return total


@pytest.mark.parametrize("arm", [arm for arm, terms in ARMS.items() if terms])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_in_one_piece_has_the_old_bits(arm, reduction, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (13,), generator=generator)
    owner = torch.arange(13).repeat_interleave(lengths)
    raw = {name: torch.randn(len(owner), 39, generator=generator) for name in ("q_x", "q_c", "f")}
    whole = Whole(len(owner), 13)
    found = []
    for way in (
        lambda log_p: old_losses(arm_terms(arm), log_p, owner, reduction),
        lambda log_p: losses(arm_terms(arm), log_p, owner, None, reduction, whole).total,
        lambda log_p: losses(arm_terms(arm), log_p, owner, None, reduction).total,
    ):
        leaves = {name: values.clone().requires_grad_() for name, values in raw.items()}
        total = way({name: values.log_softmax(-1) for name, values in leaves.items()})
        total.backward()
        found.append([total.detach(), *(leaf.grad for leaf in leaves.values() if leaf.grad is not None)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
