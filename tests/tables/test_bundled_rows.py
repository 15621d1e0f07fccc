"""What is bundled holds by today's definitions: read without a model, row by row."""

import pandas as pd
import pytest

from cr_interp.study.searching import BUNDLED

DRIFT = sorted(BUNDLED.rglob("drift*.parquet"))


@pytest.mark.parametrize("path", DRIFT, ids=lambda path: path.parent.parent.name)
def test_no_interval_excludes_its_own_estimate_and_no_biased_share_is_left(path):
    rows = pd.read_parquet(path)
    outside = (rows["low"] > rows["estimate"] + 1e-12) | (rows["high"] < rows["estimate"] - 1e-12)
    assert rows[outside].empty
    if "method" not in rows:  # measured before the share of a common shift was debiased
        assert "shift_share" not in set(rows["measure"])


def test_there_is_something_bundled_to_look_at():
    assert len(DRIFT) >= 16
