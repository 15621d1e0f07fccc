"""Similarity against the matrix products that it cannot do without: time as a ratio in one run, memory over rows."""

import subprocess
import sys
import time
from statistics import median

import pytest
import torch

from cr_interp.similarity import CkaMapAccumulator, PairMoments

pytestmark = pytest.mark.bench
THREADS = 2


def interleaved(first, second, repeats: int) -> tuple[float, float, float]:
    """Median seconds of both, taken in turns, and the median of the ratios second/first of neighbours in time."""
    first(), second()
    pairs = []
    for _ in range(repeats):
        start = time.perf_counter()
        first()
        middle = time.perf_counter()
        second()
        pairs.append((middle - start, time.perf_counter() - middle))
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(b / a for a, b in pairs)


@pytest.mark.parametrize("width", [576, 1024, 2048, 4096])
def test_pair_statistics_against_their_own_products(width):
    torch.set_num_threads(THREADS)
    x, y = torch.randn(2048, width), torch.randn(2048, width)
    moments = PairMoments(2048)
    out = torch.empty(width, width)

    def products():
        for a, b in ((x, x), (y, y), (x, y)):
            torch.mm(a.T, b, out=out)

    took, own, ratio = interleaved(lambda: moments.update(x, y), products, 3 if width > 2000 else 15)
    print(
        f"\npair statistics, width {width}: {took * 1e3:.1f} ms a chunk, own products {own * 1e3:.1f} ms: {ratio:.0%}"
    )
    assert ratio >= 0.75


@pytest.mark.parametrize("width", [576, 2048])
def test_maps_against_their_own_products(width):
    torch.set_num_threads(THREADS)
    layers, batch = 31 if width == 576 else 16, 256
    x = [torch.randn(8 * batch, width) for _ in range(layers)]
    y = [torch.randn(8 * batch, width) for _ in range(layers)]
    maps = CkaMapAccumulator(layers, layers, batch)
    grams = [torch.empty(layers, batch, batch) for _ in range(2)]

    def products():
        for start in range(0, 8 * batch, batch):
            for side, out in zip((x, y), grams, strict=True):
                for index, rows in enumerate(side):
                    part = rows[start : start + batch]
                    torch.mm(part, part.T, out=out[index])
            _ = grams[0].view(layers, -1) @ grams[1].view(layers, -1).T

    took, own, ratio = interleaved(lambda: maps.update(x, y), products, 7)
    print(
        f"\nmaps, {layers} × {layers} layers of width {width}: {took * 1e3:.0f} ms for {8 * batch} rows, own products {own * 1e3:.0f} ms: {ratio:.0%}"
    )
    assert ratio >= 0.80


PEAK = """
import resource, sys, torch
from cr_interp.similarity import CkaMapAccumulator, PairMoments
torch.set_num_threads(1)
moments, maps = PairMoments(), CkaMapAccumulator(2, 2)
for _ in range(int(sys.argv[1]) // 1000):
    x, y = torch.randn(1000, 256), torch.randn(1000, 256)
    moments.update(x, y)
    maps.update([x, y], [x, y])
moments.cka(), maps.finish()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_depend_on_the_rows():
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", PEAK, str(n)], capture_output=True, text=True, check=True
            ).stdout
        )
        for n in (10_000, 1_000_000)
    )
    print(f"\npeak memory: {few / 1024:.0f} MB for 10⁴ rows, {many / 1024:.0f} MB for 10⁶: {many / few:.3f}×")
    assert many / few == pytest.approx(1, abs=0.05)
