"""1 − CKA of views that are almost equal: right to a few per mille from float32 states, where their products agree."""

import math

import pytest
import torch

from cr_interp.similarity import DriftAccumulator, PairMoments, cka, cka_map
from cr_interp.similarity.close import CloseSums

torch.set_num_threads(1)


def almost_equal(kind: str, n: int, p: int, by: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=generator, dtype=torch.float64)
    if kind == "one massive dimension":
        x[:, 3] = 40 * x[:, 3] + 300
    if kind == "a massive mean":
        x += 100
    if kind == "few directions":
        x *= torch.logspace(0, -2, p, dtype=torch.float64)
    y = x + by * x.std() * torch.randn(n, p, generator=generator, dtype=torch.float64)
    return x.float(), y.float()


def one_minus_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """From U-centred float64 Grams, with the part of one that is orthogonal to the other taken before anything cancels."""

    def u_centred(rows):
        rows = rows.double() - rows.double().mean(0)
        k = (rows @ rows.T).fill_diagonal_(0)
        n, s = len(k), k.sum(0)
        k = k - (s[:, None] + s[None]) / (n - 2) + s.sum() / ((n - 1) * (n - 2))
        return k.fill_diagonal_(0)

    k, l_ = u_centred(x), u_centred(y)
    rest = l_ - (k * l_).sum() / (k * k).sum() * k
    square = ((rest * rest).sum() / (l_ * l_).sum()).item()
    return square / (1 + math.sqrt(1 - square))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "one massive dimension", "a massive mean", "few directions"])
@pytest.mark.parametrize(("n", "p"), [(300, 64), (2500, 96)])
@pytest.mark.parametrize("by", [1e-3, 3e-2])
def test_one_minus_cka_of_float32_states_keeps_its_digits(kind, n, p, by):
    x, y = almost_equal(kind, n, p, by)
    expected = one_minus_cka(x, y)
    assert 1e-8 < expected < 1e-2
    assert 1 - cka(x, y) == pytest.approx(expected, rel=0.005)
    assert 1 - cka_map([x], [y], batch=4096)[0, 0] == pytest.approx(expected, rel=0.005)


def test_the_panel_and_the_example_level_do_so_too():
    x, y = almost_equal("one massive dimension", 600, 64, 1e-3)
    example = torch.arange(600) // 3
    drift = DriftAccumulator(64, measures=("cka", "cka_examples"), tokens=3)
    drift.update(x, y, example)
    found = {row["measure"]: 1 - row["estimate"] for row in drift.finish(20)}
    assert found["cka"] == pytest.approx(one_minus_cka(x, y), rel=0.005)
    exact = 1 - cka(x.double(), y.double(), groups=example)
    assert found["cka_examples"] == pytest.approx(exact, rel=0.005)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("chunk", [10, 1024])
def test_streams_whose_rows_are_close_merge_with_any_other(far, chunk):
    """A stream that begins far apart keeps its sums in another way; together they are one stream."""
    x, y = (side.double() for side in almost_equal("a massive mean", 900, 6, 0.05))
    if far:
        y[600:] = -2 * x[600:] + 7
    whole = PairMoments(5000)
    whole.update(x[[*range(600, 900), *range(600)]], y[[*range(600, 900), *range(600)]])
    for order in (0, 1):
        parts = [PairMoments(chunk), PairMoments(chunk)]
        for part, cut in zip(parts, (slice(0, 600), slice(600, 900)), strict=True):
            part.update(x[cut], y[cut])
            part.cka()  # what waits for a whole chunk is counted
        assert (parts[0]._close is not None, parts[1]._close is not None) == (True, not far)
        one, other = parts[order], parts[1 - order]
        one.merge(other)
        assert one.n == 900
        assert one.cka() == pytest.approx(whole.cka(), rel=1e-10)
        assert one.hsic() == pytest.approx(whole.hsic(), rel=1e-9)
        for measure in ("procrustes", "subspace_overlap", "mean_shift_share", "cosine"):
            assert one.measure(measure, 3).value == pytest.approx(whole.measure(measure, 3).value, rel=1e-9)


def test_a_shift_is_that_of_the_rows():
    x, d = torch.randn(2, 30, 4, dtype=torch.float64)
    u, v = torch.randn(2, 4, dtype=torch.float64)

    def sums(a, b):
        forms = torch.stack([(a * a).sum(1), (a * b).sum(1), (b * b).sum(1)])
        return CloseSums(
            30, a.sum(0), b.sum(0), a.T @ a, a.T @ b, b.T @ b, forms.sum(1), forms @ a, forms @ b, forms @ forms.T
        )

    found, expected = sums(x, d).shifted(u, v), sums(x + u, d + v)
    for name in ("x", "d", "xx", "xd", "dd", "forms", "times_x", "times_d", "pairs"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
