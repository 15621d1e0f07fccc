"""What starts without a model costs hardly more than the libraries that it cannot do without: pandas, typer and rich."""

import resource
import subprocess
import sys
from statistics import median

import pytest

pytestmark = pytest.mark.bench

LIBRARIES = ["-c", "import pandas, typer, rich.console"]
COMMANDS = (
    "--help",
    "studies",
    "table organism-shift",
    "table organism-shift --json",
    "controls organism-shift",
    "plan organism-shift",
    "plan organism-shift training.lrr=3",
    "export organism-shift OUT",
)
ROUNDS = 5


def cpu(words: list[str]) -> float:
    """Seconds of CPU that a process takes, whoever else is running."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_at_most_half_as_much_again_as_the_libraries(tmp_path):
    ratios: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for turn in range(ROUNDS):
        for command in COMMANDS:  # each beside the libraries, so that a busy moment meets both
            words = command.replace("OUT", str(tmp_path / f"out{turn}")).split()
            libraries = cpu(LIBRARIES)
            ratios[command].append(cpu(["-m", "cr_interp", *words]) / libraries)
    found = {command: median(of) for command, of in ratios.items()}
    for command, ratio in found.items():
        print(f"{command:40s} {ratio:.2f}  [{min(ratios[command]):.2f}, {max(ratios[command]):.2f}]")
    assert max(found.values()) <= 1.5
