"""Whatever needs no model loads no torch: looking at results, planning, and every error in what somebody typed."""

import json
import subprocess
import sys

import pytest

#: Libraries that take seconds to load.
HEAVY = ("torch", "transformers", "datasets")
RUN = """
import contextlib, io, json, sys
sys.argv = ["cr-interp", *sys.argv[1:]]
from cr_interp.cli import main
code = 0
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
print(json.dumps([code, [name for name in HEAVY if name in sys.modules]]))
""".replace("HEAVY", repr(HEAVY))


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (0, "--help"),
        (0, "--version"),
        (0, "distill --help"),
        (0, "studies"),
        (0, "table organism-shift"),
        (0, "table organism-shift --json"),
        (0, "controls organism-shift"),
        (0, "plan organism-shift"),
        (0, "plan paper/medmcqa-llama31-8b"),
        (0, "export organism-shift OUT"),
        (0, "report organism-shift -o OUT"),
        (2, "report organism-shift -o OUT.pdf"),
        (2, "plan nonesuch"),
        (2, "plan organism-shift training.lrr=3"),
        (2, "distill organism-shift training.lrr=3"),
        (2, "distill organism-shift --seeds x"),
        (2, "reproduce organsim-shift"),
        (2, "reproduce organism-shift training.steps=0"),
        (2, "suite training.lrr=3"),
        (2, "suite --settings nonesuch"),
        (2, "pretrain nonesuch"),
        (2, "compare base --out OUT"),
        (2, "compare base=x --out OUT"),
        (2, "compare base=x --out OUT --task nonesuch"),
        (2, "table nonesuch"),
        (2, "explain nonesuch"),
        (2, "explain organism-shift --analyses nonesuch"),
        (2, "explain organism-shift --seeds x"),
        (2, "app nonesuch"),
    ],
)
def test_no_torch(code, command, tmp_path):
    words = [word.replace("OUT", str(tmp_path / "out")) for word in command.split()]
    ran = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.strip().split("\n")[-1]) == [code, []]
