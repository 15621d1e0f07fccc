"""Whatever needs no model loads no torch: looking at results, planning, and every error in what somebody typed."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

#: Libraries that take seconds to load.
HEAVY = ("torch", "transformers", "datasets")
#: Told ``[folder, word, …]`` a line, it answers with the exit code and which of them a command has loaded. Each runs in a fork of
#: an interpreter that has loaded none: what every command needs is imported once.
SERVER = """
import contextlib, io, json, os, sys
import pandas, rich.console, typer
for line in sys.stdin:
    if not (child := os.fork()):
        folder, *words = json.loads(line)
        os.chdir(folder)
        sys.argv = ["cr-interp", *words]
        code = 0
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from cr_interp.cli import main
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        print(json.dumps([code, [name for name in HEAVY if name in sys.modules]]), flush=True)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        print(json.dumps("it ended with an error"), flush=True)
""".replace("HEAVY", repr(HEAVY))


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        assert started.stdin
        started.stdin.close()


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
        pytest.param(0, "report organism-shift -o OUT", marks=pytest.mark.slow),
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
        (2, "compare base=x --out OUT --task rules:shift --engine vlm"),
        (2, "table nonesuch"),
        (2, "explain nonesuch"),
        (2, "explain organism-shift --analyses nonesuch"),
        (2, "explain organism-shift --seeds x"),
        (2, "app nonesuch"),
    ],
)
def test_no_torch(code, command, tmp_path, server):
    words = [word.replace("OUT", str(tmp_path / "out")) for word in command.split()]
    server.stdin.write(json.dumps([str(tmp_path), *words]) + "\n")
    server.stdin.flush()
    assert json.loads(server.stdout.readline()) == [code, []]


def test_the_interpreter_that_is_forked_has_loaded_none(server):
    """Else no fork could show that a command loads one."""
    said = (
        "import sys, pandas, rich.console, typer; print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", said, *HEAVY], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "[]\n")
