"""How little the similarity measures add to the matrix products that they need anyway, and that memory is constant.

Each statistic is timed beside its own products in its own precision, alternating, on a fixed number of threads; the share that
the products make of the whole time is asserted (median over the repetitions), no absolute time. The products are the textbook
ones, whole matrices throughout, where only three of the four blocks of a symmetric one are multiplied. Of a pair they are
float32 and happen in ``update``; of a map they are float64 and happen in ``finish``.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
from rich.console import Console

from cr_interp.similarity import CkaMapAccumulator, PairMoments
from cr_interp.similarity.maps import BUFFERED
from cr_interp.similarity.moments import CHUNK

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
THREADS = 1
PAIR_SHARE, MAP_SHARE = 0.75, 0.80
MEMORY = 0.05


def share(
    products: Callable[[], object], whole: Callable[[], object], repeats: int
) -> tuple[float, float, float]:
    """Medians of the products' time, of the whole time, and of their ratio; alternating, so that noise hits both."""
    torch.set_num_threads(THREADS)

    def timed(what: Callable[[], object]) -> float:
        start = time.perf_counter()
        what()
        return time.perf_counter() - start

    timed(products), timed(whole)
    times = [(timed(products), timed(whole)) for _ in range(repeats)]
    first, second = (statistics.median(each) for each in zip(*times, strict=True))
    return first, second, statistics.median(a / b for a, b in times)


def show(what: str, first: float, second: float, found: float, required: float | None) -> None:
    Console(width=114).print(
        f"{what}: products {1e3 * first:.1f} ms, whole {1e3 * second:.1f} ms, share {found:.3f}, required {required}"
    )


@pytest.mark.parametrize("width", [576, 1024, 2048, 4096])
def test_pair_statistics_against_their_three_products(width):
    x, y = torch.randn(CHUNK, width), torch.randn(CHUNK, width)
    out = torch.empty(width, width)
    moments = PairMoments()

    def products():
        torch.mm(x.T, x, out=out)
        torch.mm(y.T, y, out=out)
        torch.mm(x.T, y, out=out)

    result = share(products, lambda: moments.update(x, y), 21 if width < 2048 else 5)
    show(f"pair, width {width}", *result, PAIR_SHARE)
    assert result[2] >= PAIR_SHARE


@pytest.mark.parametrize(("width", "batch"), [(576, 256), (576, 512), (2048, 256)])
@pytest.mark.parametrize("within", [True, False])
def test_reading_a_map_against_its_products(width, batch, within):
    """``finish`` multiplies: float64, rows gathered from a float32 sample and centred, which the products are spared."""
    layers, rows = 8, BUFFERED * batch
    x = [torch.randn(rows, width) for _ in range(layers)]
    y = x if within else [torch.randn(rows, width) for _ in range(layers)]
    sides = [[layer.double() for layer in side] for side in ((x,) if within else (x, y))]
    grams = [torch.empty(layers, batch, batch, dtype=torch.float64) for _ in sides]
    maps = CkaMapAccumulator(layers, layers, batch)
    maps.update(x, y)

    def products():
        for start in range(0, rows, batch):
            for side, gram in zip(sides, grams, strict=True):
                for index, layer in enumerate(side):
                    part = layer[start : start + batch]
                    torch.mm(part, part.T, out=gram[index])
            _ = grams[0].view(layers, -1) @ grams[-1].view(layers, -1).T

    result = share(products, maps.finish, 9)
    show(f"map, {'one side' if within else 'two sides'}, width {width}, batch {batch}", *result, MAP_SHARE)
    assert result[2] >= MAP_SHARE


@pytest.mark.parametrize("step", [100, BUFFERED * 256])
def test_updates_of_a_map_against_the_products_of_reading_it(step):
    """An update copies rows into the sample and multiplies nothing: of a stream that fits, all of them cost less than a read."""
    layers, width, rows = 8, 576, BUFFERED * 256
    x = [torch.randn(rows, width) for _ in range(layers)]
    filled = CkaMapAccumulator(layers, layers)
    filled.update(x, x)

    def updates():
        maps = CkaMapAccumulator(layers, layers)
        for start in range(0, rows, step):
            part = [layer[start : start + step] for layer in x]
            maps.update(part, part)

    torch.set_num_threads(THREADS)
    first, second, found = share(updates, filled.finish, 5)
    Console(width=114).print(
        f"map, {step} rows an update: updates {1e3 * first:.1f} ms, reading {1e3 * second:.1f} ms, {found:.3f} of it"
    )
    assert found <= 0.5


PEAK = """
import sys, torch
from cr_interp.similarity import CkaMapAccumulator, PairMoments
from cr_interp.similarity.maps import example_map
from cr_interp.similarity.samples import ExampleSample
torch.set_num_threads(1)
pair, maps, examples = PairMoments(), CkaMapAccumulator(2, 2), ExampleSample(8)
for first in range(0, int(sys.argv[1]), 1000):
    x, y = torch.randn(1000, 128), torch.randn(1000, 128)
    pair.update(x, y)
    maps.update([x, y], [y, x])
    examples.offer([x, y], torch.arange(first, first + 1000) // 20)
for name in ("cka", "cosine", "norm_ratio", "mean_shift_share", "procrustes", "subspace_overlap"):
    pair.measure(name)
maps.finish()  # where a map's products are: of as many rows, whatever the stream's length
example_map(examples.stacked(), None, examples)
# Not getrusage: its maximum is inherited from the process that started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_rows():
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", PEAK, str(n)], capture_output=True, text=True, check=True
            ).stdout
        )
        for n in (10_000, 1_000_000)
    )
    Console(width=114).print(f"peak memory: {few / 1024:.1f} MB at 1e4 rows, {many / 1024:.1f} MB at 1e6")
    assert abs(many / few - 1) <= MEMORY
