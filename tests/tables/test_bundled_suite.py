"""The bundled suite: the paper's twelve settings whole, its numbers those of its answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cr_interp.study.searching import BUNDLED
from cr_interp.tables.behaviour import METRICS
from cr_interp.tables.suite import SETTINGS, Suite, open_suite, suite_table, unfinished
from training.settings import load_config

ROOT = Path(__file__).resolve().parents[2]
SEEDS = {0, 1, 2}
MEGABYTES = 8


@pytest.fixture(scope="module")
def bundled() -> Suite:
    return open_suite(BUNDLED / "suite")


def test_it_is_whole_and_small(bundled):
    assert tuple(bundled.studies) == SETTINGS
    assert not unfinished(bundled)
    for setting, study in bundled.studies.items():
        rows = study.table("generations")
        assert set(rows["split"]) == {"test"}
        for arm in ("base", *load_config(f"suite/{setting}").arms):
            assert set(rows.loc[rows["arm"] == arm, "seed"]) == ({0} if arm == "base" else SEEDS), (setting, arm)
    size = sum(file.stat().st_size for file in bundled.path.rglob("*") if file.is_file())
    assert size <= MEGABYTES * 1e6


def test_it_was_made_with_the_settings_that_are_here(bundled):
    for setting, study in bundled.studies.items():
        config = load_config(f"suite/{setting}").model_dump(mode="json")
        made = study.manifest["config"]
        # Younger than the bundle: the examples' permutations, which its states were not asked for.
        assert config["evaluation"].pop("permutations")
        assert "permutations" not in made["evaluation"]
        # Younger as well, and off: as it was made.
        younger = {key: config["evaluation"].pop(key) for key in ("leave_out", "engine")}
        assert (config["training"].pop("plateau"), younger) == (
            None,
            {"leave_out": None, "engine": "transformers"},
        )
        for key in ("task", "model", "teacher", "training", "evaluation"):
            assert made[key] == config[key], (setting, key)


@pytest.mark.slow
def test_every_number_can_be_recomputed_from_the_answers(bundled):
    table = suite_table(bundled)
    table = table[table["metric"].isin(METRICS)].set_index(["setting", "arm", "seed", "metric"])["estimate"]
    checked = 0
    for setting, study in bundled.studies.items():
        rows = study.table("generations")
        rows = rows[rows["control"].isin(["none", "exact"])].assign(right=rows["outcome"] == "right")
        wide = rows.pivot(index=["arm", "seed", "example_id"], columns="view", values=["right", "n_tokens"])
        for (arm, seed), part in wide.groupby(["arm", "seed"]):
            for metric, expected in by_hand(part).items():
                found = table[setting, arm, seed, metric]
                assert found == pytest.approx(expected, nan_ok=True), (setting, arm, seed, metric)
                checked += 1
    assert checked >= len(METRICS) * len(SETTINGS) * (1 + 2 * len(SEEDS))


def by_hand(part: pd.DataFrame) -> dict[str, float]:
    x, c = (part["right", view].astype(bool) for view in ("no_context", "with_context"))
    short, long = (part["n_tokens", view].mean() for view in ("no_context", "with_context"))
    return {
        "acc_x": x.mean(),
        "acc_xc": c.mean(),
        "both_correct": (x & c).mean(),
        "harm": (x & ~c).sum() / x.sum() if x.any() else np.nan,
        "rescue": (~x & c).sum() / (~x).sum() if not x.all() else np.nan,
        "delta_len": long / short - 1,
    }
