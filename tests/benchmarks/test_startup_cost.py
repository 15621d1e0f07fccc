"""What starts without a model costs hardly more than the libraries that it cannot do without: pandas, typer and rich."""

import resource
import subprocess
import sys

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
    taken: dict[str, list[float]] = {name: [] for name in ("libraries", *COMMANDS)}
    for turn in range(ROUNDS):  # in turns, so that a busy moment meets all of them
        taken["libraries"].append(cpu(LIBRARIES))
        for command in COMMANDS:
            words = command.replace("OUT", str(tmp_path / f"out{turn}")).split()
            taken[command].append(cpu(["-m", "cr_interp", *words]))
    # Of each the least: neighbours can only add to it.
    ratios = {command: min(taken[command]) / min(taken["libraries"]) for command in COMMANDS}
    for command, ratio in ratios.items():
        print(f"{command:40s} {ratio:.2f}")
    assert max(ratios.values()) <= 1.5
