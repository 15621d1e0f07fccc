"""How long work takes on a GPU that has published numbers and an assumed share of them that is reached.

Assumed is the share :data:`COMPUTE` of the dense 16-bit throughput in training and in reading prompts (Llama 3 reports 38–43
% on H100s, arXiv 2407.21783, table 4). In writing responses it is the share :data:`BANDWIDTH` of the memory bandwidth: each
token waits for all weights, and the keys and values of its row, to be read once (the roofline of Pope et al. 2022, arXiv
2211.05102). Not counted: loading, communication between nodes, states captured for the drift, waiting for the longest
response.
"""

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from cr_interp.errors import unknown
from training.planning.architecture import Architecture
from training.planning.work import Lengths, forward, head, pairs

COMPUTE, BANDWIDTH = 0.4, 0.6
#: A GPU's usable share of its memory; the rest is the driver's, the library's and lost between blocks.
USABLE = 0.9
#: Rows that an engine writes at a time.
ENGINE_ROWS = 256
TABLE = Path(__file__).parent / "gpus.yaml"


class Gpu(BaseModel):
    """Memory in GiB, dense 16-bit throughput in TFLOP/s, memory bandwidth in GB/s."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory: int
    tflops: float
    bandwidth: float


@cache
def gpus() -> dict[str, Gpu]:
    return {name: Gpu.model_validate(v) for name, v in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items()}


def gpu(name: str) -> Gpu:
    if name not in gpus():
        raise unknown("GPU", name, gpus())
    return gpus()[name]


def computing(operations: float, on: Gpu, number: int) -> float:
    """Estimate the seconds that computing takes."""
    return operations / (number * on.tflops * 1e12 * COMPUTE)


def writing(
    shape: Architecture, rows: int, lengths: Lengths, on: Gpu, number: int, with_context: bool = False
) -> float:
    """Estimate the seconds to answer ``rows`` prompts, shared out over the GPUs, each of which holds all weights in 16 bits."""
    before = lengths.context if with_context else 0
    turn = forward(shape, lengths.prompt, pairs(lengths.prompt, before))
    reading = computing(rows * lengths.turns * turn + forward(shape, before, pairs(before)), on, number)
    rounds, rest = divmod(-(-rows // number), ENGINE_ROWS)
    seconds = reading
    for times, at_once in ((rounds, ENGINE_ROWS), (1 if rest else 0, rest)):
        seen = before + lengths.prompt + lengths.response / 2  # of a row, on average over its tokens
        read = (2 * shape.parameters + at_once * seen * shape.kv_bytes) / (on.bandwidth * 1e9 * BANDWIDTH)
        computed = computing(at_once * (forward(shape, 1, int(seen)) + head(shape, 1)), on, 1)
        seconds += times * lengths.aligned * max(read, computed)
    return seconds
