"""Cosine, Procrustes, subspaces, shift and norms from the moments, against the direct computation."""

import math

import pytest
import torch

from cr_interp.similarity import PairMoments


def rows(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 9, dtype=torch.float64, generator=generator) * torch.arange(1, 10) + 3
    y = 0.8 * x + torch.randn(300, 9, dtype=torch.float64, generator=generator) + 0.5
    return x.to(dtype), y.to(dtype)


def moments(x, y, chunk=64):
    found = PairMoments(chunk)
    found.update(x, y)
    return found


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_against_the_direct_computation(dtype, close):
    x, y = rows(dtype)
    found = moments(x, y)
    x, y = x.double(), y.double()
    assert found.cosine() == pytest.approx(torch.nn.functional.cosine_similarity(x, y).mean().item(), abs=close)
    assert found.norm_ratio() == pytest.approx((y.norm(dim=1) / x.norm(dim=1)).mean().item(), abs=close)
    shift = 300 * (y - x).mean(0).square().sum() / (y - x).square().sum()
    assert found.mean_shift_share() == pytest.approx(shift.item(), abs=close)
    a, b = x - x.mean(0), y - y.mean(0)
    assert found.procrustes() == pytest.approx(
        (torch.linalg.svdvals(a.T @ b).sum() / a.norm() / b.norm()).item(), abs=close
    )
    main = [torch.linalg.svd(side, full_matrices=False).Vh[:3] for side in (a, b)]
    angles = torch.arccos(torch.linalg.svdvals(main[0] @ main[1].T).clamp(max=1))  # principal angles
    assert found.subspace_overlap(3) == pytest.approx(angles.cos().square().mean().item(), abs=close)


def test_a_rotation_is_procrustes_one():
    x, _ = rows()
    rotation = torch.linalg.qr(
        torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ).Q
    assert moments(x, x @ rotation + 4).procrustes() == pytest.approx(1, abs=1e-12)


def test_undefined_says_why():
    x, y = rows()
    assert "no rows" in str(PairMoments().measure("cosine").reason)
    assert "widths 9 and 5" in str(moments(x, y[:, :5]).measure("cosine").reason)
    assert moments(x, y[:, :5]).procrustes() > 0
    assert "do not move" in str(moments(x, x).measure("mean_shift_share").reason)
    zero = x.clone()
    zero[4] = 0
    assert "norm 0" in str(moments(zero, y).measure("cosine").reason)
    assert "constant" in str(moments(torch.full_like(x, 0.1), y).measure("procrustes").reason)
    assert "do not exist" in str(moments(x, y).measure("subspace_overlap", 12).reason)
    with pytest.raises(ValueError, match="unknown measure"):
        moments(x, y).measure("cosines")
    assert math.isnan(PairMoments().cosine())


def test_directions_beyond_the_rank_are_not_compared():
    x, y = rows()
    flat = x[:, :2] @ torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert moments(flat, y).subspace_overlap(2) > 0
    assert "fewer than 3 directions" in str(moments(flat, y).measure("subspace_overlap", 3).reason)
    assert "not finite" in str(moments(x, y * math.inf).measure("mean_shift_share").reason)
    assert moments(x, y).measure("cka").value == moments(x, y).cka()
