"""What all tests share: no network, one thread, and a cache of datasets that goes when they do."""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="cr-interp-tests-")
os.environ["CR_INTERP_STORED"] = (
    ""  # what a test computes is computed, and nothing goes into the user's own cache
)

import pytest
from dealing import dealt
from in_memory import write_in_memory
from tiny import tiny

# Compiling this project anew in each of some three hundred processes takes minutes.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Whoever runs the tests may ignore it (nohup does), every process started here would too, and some tests send it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Workers are told by the process that starts them; whoever gives a place gets that."""
    if not hasattr(config, "workerinput") and config.option.basetemp is None:
        write_in_memory()


@pytest.hookimpl(trylast=True)  # of what is left to run
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, and give each worker as many of them; see ``dealing.py``."""
    items[:] = dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def pytest_collection_finish() -> None:
    """Let the collector pass over what lives to the end: with torch loaded, each of its rounds looks at a million objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """So too what a file's tests have left: every Trainer asks for a whole round, and so would pay for all tests before it."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def tiny_llama():
    return tiny()


@pytest.fixture(scope="session")
def organism():
    import torch

    from cr_interp.models.loading import load

    torch.set_num_threads(1)
    return load("builtin:organism-rules")
