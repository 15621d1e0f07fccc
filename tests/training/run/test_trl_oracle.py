"""Our losses are TRL's self-distillation losses where both are defined alike; TRL calls a divergence by its α.

α = 1 is KL(student ‖ teacher), the paper's ``KL(q_x || f)``; α = 0 is KL(teacher ‖ student), which with the student's own
no-context distribution as the teacher is the anchor, ``KL(sg[q_x] || q_c)``. Where definitions part: TRL's default puts
the tail of a top-k into a bucket of its own, the paper renormalises; TRL has nothing for three distributions.
"""

import pytest
import torch

from training.objectives import parse_term
from training.run.losses import losses

trl = pytest.importorskip("trl.experimental.sdft.loss_utils", reason="the extra `trl` is not installed")
ROWS, LENGTH, VOCABULARY = 5, 7, 40


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return {name: 3 * torch.randn(ROWS, LENGTH, VOCABULARY, generator=generator) for name in ("q_x", "q_c", "f")}


@pytest.fixture
def mask():
    """Responses of unequal lengths."""
    lengths = torch.tensor([7, 1, 4, 6, 3])
    return torch.arange(LENGTH)[None] < lengths[:, None]


def ours(term, logits, mask, trained, **options):
    """Value and gradient of one term, tokens laid out as in a step."""
    leaf = logits[trained].clone().requires_grad_()
    log_p = {name: (leaf if name == trained else value)[mask].log_softmax(-1) for name, value in logits.items()}
    owner = torch.arange(ROWS)[:, None].expand(ROWS, LENGTH)[mask]
    total = losses([parse_term(term)], log_p, owner, **options).total
    return total, torch.autograd.grad(total, leaf)[0]


def theirs(divergence, logits, mask, trained, reduction):
    leaf = logits[trained].clone().requires_grad_()
    per_token = divergence(leaf)
    if reduction == "sequence_mean":
        total = ((per_token * mask).sum(-1) / mask.sum(-1)).mean()  # SDFTTrainer's
    else:
        total = (per_token * mask).sum() / mask.sum()
    return total, torch.autograd.grad(total, leaf)[0]


def same(first, second):
    torch.testing.assert_close(first[0], second[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first[1], second[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize(
    ("term", "student", "teacher", "alpha"),
    [
        ("KL(q_x || f)", "q_x", "f", 1.0),
        ("KL(f || q_x)", "q_x", "f", 0.0),
        ("KL(q_c || f)", "q_c", "f", 1.0),
        ("KL(sg[q_x] || q_c)", "q_c", "q_x", 0.0),
        ("KL(q_c || sg[q_x])", "q_c", "q_x", 1.0),
    ],
)
def test_over_the_full_vocabulary(term, student, teacher, alpha, reduction, logits, mask):
    def divergence(leaf):
        return trl.compute_full_logit_self_distillation_loss(leaf, logits[teacher], distillation_alpha=alpha)

    same(
        ours(term, logits, mask, student, reduction=reduction),
        theirs(divergence, logits, mask, student, reduction),
    )


@pytest.mark.parametrize("k", [2, 8, VOCABULARY - 1])
@pytest.mark.parametrize(("term", "alpha"), [("KL(q_x || f)", 1.0), ("KL(f || q_x)", 0.0)])
def test_on_the_students_top_k_renormalised(term, alpha, k, logits, mask):
    def divergence(leaf, tail=False):
        return trl.compute_topk_self_distillation_loss(
            leaf, logits["f"], distillation_topk=k, distillation_alpha=alpha, distillation_add_tail=tail
        )

    found = ours(term, logits, mask, "q_x", top_k=k)
    same(found, theirs(divergence, logits, mask, "q_x", "token_mean"))
    with_tail = theirs(lambda leaf: divergence(leaf, tail=True), logits, mask, "q_x", "token_mean")
    assert not torch.allclose(found[0], with_tail[0], rtol=1e-3)  # another definition, not another rounding
