"""Every page of a study without an answer key: none fails, and the words say what is not defined and what is there instead."""

from pathlib import Path

import numpy as np
import pytest
from shown_tables import shown
from streamlit.testing.v1 import AppTest
from synthetic import make_study

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
ALL = ("generations", "drift", "training", "cka_map", "token_drift")
pytestmark = pytest.mark.slow


@pytest.fixture
def keyless(root):
    study = make_study(root / "keyless", layers=3, examples=12, tables=ALL)
    rows = study.table("generations")
    study.replace("generations", rows.assign(outcome="ungraded", answer=""))
    own = rows[rows["view"] == "no_context"].drop_duplicates(["arm", "seed", "step", "example_id"])
    rng = np.random.default_rng(0)
    told = own[["arm", "seed", "step", "example_id"]].assign(
        cluster=own["example_id"],
        control="exact",
        n_tokens=5,
        fidelity=rng.uniform(0, 1, len(own)),
        invariance=rng.uniform(0, 1, len(own)),
    )
    study.put("divergence", told)
    return study


def said(app: AppTest) -> str:
    parts = [app.markdown, app.caption, app.info, app.error, app.subheader]
    return "\n".join(str(element.value) for part in parts for element in part)


@pytest.mark.parametrize(
    "page", ["overview", "examples", "layers", "maps", "tokens", "training", "mechanism", "try_it"]
)
def test_no_page_fails(keyless, page):
    app = AppTest.from_file(str(MAIN), default_timeout=90)
    app.query_params["study"] = "keyless"
    app = app.switch_page(f"screens/{page}.py").run()
    assert not app.exception
    assert not app.error, [each.value for each in app.error]
    if page == "overview":
        assert "No example has an answer key" in said(app)
        assert any("Changed (%)" in frame.columns for frame in shown(app))
    if page == "examples":
        assert "changed" in said(app)
