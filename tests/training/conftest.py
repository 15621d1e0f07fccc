"""What the tests of training share."""

import pytest


@pytest.fixture
def warm_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that a study's or a suite's runs are start warm; see ``warm.py``."""
    import warm

    from training.studies import jobs

    monkeypatch.setattr(jobs, "start", warm.Popen)
