"""The wheel, installed in a fresh environment: every command works, and no name of somebody else's is taken."""

import os
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The ``bin`` of an environment with the wheel alone in it; torch and the rest are lent by a path file."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT], check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    home = next((folder / "env").glob("lib/python*/site-packages"))
    subprocess.run([*pip, "install", "--no-deps", "--target", home, wheel], check=True, capture_output=True)
    # Our own editable installation is found by a finder that its .pth file starts; a path alone does not start it.
    (home / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = folder / "env" / "bin" / "cr-interp"
    command.write_text(f"#!{folder / 'env' / 'bin' / 'python'}\nfrom cr_interp.__main__ import run\nrun()\n")
    command.chmod(0o755)
    return command.parent


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A working directory with packages of the names that a wheel must not take, each of which would break it."""
    for name in ("app", "training", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            "raise RuntimeError('somebody else\\'s package was imported')\n"
        )
    return tmp_path


def run(bin_: Path, *words: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run([bin_ / "cr-interp", *words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_nothing_but_its_own_name_is_taken(installed):
    (home,) = installed.parent.glob("lib/python*/site-packages")
    taken = {each.name for each in home.iterdir() if not each.name.startswith("cr_interp-")}
    assert taken == {"cr_interp", "lent.pth"} | ({"bin"} & taken)


def test_it_is_the_wheel_that_runs(installed, elsewhere):
    said = subprocess.run(
        [installed / "python", "-c", "import cr_interp.system.house as h; print(h.house())"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        check=True,
    ).stdout
    assert said.strip() == str(next(installed.parent.glob("lib/python*/site-packages")) / "cr_interp" / "_house")


@pytest.mark.slow
def test_a_report_and_what_goes_into_somebody_s_trainer(installed, elsewhere):
    """The report's files are in the wheel, and a script that has a package ``training`` of its own imports the callback."""
    assert "MB" in run(installed, "report", "organism-shift", "-o", "report.html", cwd=elsewhere)
    assert (elsewhere / "report.html").read_text("utf-8").endswith("</html>\n")
    program = "from cr_interp.integrations.callback import watch; import sys; print(watch.__module__, 'training' in sys.modules)"
    said = subprocess.run(
        [installed / "python", "-c", program],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == ["cr_interp.integrations.callback", "False"]


def test_tables_and_two_steps_of_training(installed, elsewhere):
    assert "harm" in run(installed, "table", "organism-shift", cwd=elsewhere)
    assert run(installed, "--version", cwd=elsewhere).startswith("cr-interp ")
    steps = ["training.steps=2", "training.batch_size=4", "training.eval_every=2", "training.save_every=2"]
    run(
        installed,
        "distill",
        "organism-shift",
        *steps,
        "training.eval_examples=4",
        "--arms",
        "nca",
        "--seeds",
        "0",
        cwd=elsewhere,
    )
    assert (
        elsewhere / "studies" / "organism-shift" / "runs" / "nca-s0" / "checkpoint-2" / "model.safetensors"
    ).is_file()


def test_the_workbench_opens_from_anywhere(installed, elsewhere):
    port = "8797"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen(
        [installed / "cr-interp", "app", "organism-swap", "--port", port],
        cwd=elsewhere,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        assert f"http://127.0.0.1:{port}/?study=organism-swap" in server.stdout.readline()
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    assert answer.read() == b"ok"
                    return
            except OSError:
                assert server.poll() is None, server.stdout.read()
                time.sleep(0.3)
        pytest.fail("the server did not answer")
    finally:
        os.killpg(server.pid, 9)
        server.wait()
