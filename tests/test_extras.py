"""The extras that people are sent to exist, and what is pinned there is what was tested."""

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_every_extra_that_is_named_exists():
    files = chain(
        [ROOT / "README.md"],
        (ROOT / "docs").rglob("*.md"),
        *((ROOT / each).rglob("*.py") for each in ("cr_interp", "training", "app", "tests")),
    )
    named: dict[str, Path] = {}
    for file in files:
        for listed in re.findall(r"cr-interp\[([\w,]+)\]|extra [`']+(\w+)[`']", file.read_text()):
            named |= {name: file for name in "".join(listed).split(",")}
    assert {"lora", "hub", "games", "vllm", "trl", "deepspeed"} <= named.keys()
    assert {name: file for name, file in named.items() if name not in EXTRAS} == {}


def test_pinned_extras_have_the_versions_that_were_tested():
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?==(\S+)", each) for each in chain.from_iterable(EXTRAS.values())]
    found = {(pin[1], pin[2]) for pin in pins if pin}
    assert {name for name, _ in found} == {"trl", "textarena"}
    assert found <= tested.items()


def test_the_makefile_installs_every_extra_but_those_that_only_a_gpu_needs():
    # A package that happens to be at hand on one machine hides from its tests that CI lacks it.
    installed = re.search(r"-e '\.\[([\w,]+)\]'", (ROOT / "Makefile").read_text())
    assert installed is not None
    assert EXTRAS.keys() - set(installed[1].split(",")) == {"vllm", "trl", "deepspeed"}
    assert set(EXTRAS["trl"]) <= set(EXTRAS["dev"])
