"""A process that leaves at once has printed all, called all and the right code; where that is not sure, Python ends it."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cr_interp.__main__

ROOT = Path(__file__).resolve().parents[2]

SAID = """
import atexit, sys, threading, types
atexit.register(lambda: print("called", end=""))
{before}
print("printed", end=" ")
from cr_interp.system.leaving import leave
class Late:  # seen only where the interpreter is taken apart
    def __del__(self): sys.__stderr__.write("taken apart")
late = Late()
try:
    leave(SystemExit({code}))
finally:
    sys.stderr.write("not at once ")
"""


def left(code: str, before: str = "") -> tuple[int, str, str]:
    ran = subprocess.run(
        [sys.executable, "-c", SAID.format(code=code, before=before)], capture_output=True, text=True
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize(("code", "given"), [("3", 3), ("None", 0), ("0", 0)])
def test_it_ends_at_once(code, given):
    assert left(code) == (given, "printed called", "")


@pytest.mark.parametrize(
    ("code", "before", "given"),
    [
        ("'a sentence'", "", 1),
        ("3", "sys.modules['torch'] = types.ModuleType('torch')", 3),
        ("3", "threading.Thread(target=threading.Event().wait, args=(0.2,)).start()", 3),
    ],
)
def test_python_ends_what_has_more_to_end(code, before, given):
    returned, said, errors = left(code, before)
    assert (returned, said) == (given, "printed called")
    assert errors.startswith("not at once ")


def test_a_reader_that_is_gone_is_told_of_by_python():
    """As by any program: the message is Python's, and so is the code."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", SAID.format(code="0", before="")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered) as ran:
        ran.stdout.close()
        errors = ran.stderr.read()
    assert b"BrokenPipeError" in errors
    assert ran.returncode == 120


def test_the_installed_command_leaves_so():
    script = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["cr-interp"]
    module, _, function = script.partition(":")
    assert getattr(importlib.import_module(module), function) is cr_interp.__main__.run
