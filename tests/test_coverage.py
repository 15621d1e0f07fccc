"""Does a 95 % interval hold what it is about in 95 % of cases? In simulations, and where theory promises it."""

import numpy as np
import pytest
from coverage_simulation import interval_within, markdown, simulate, table

from cr_interp.tables.estimates import Sums, estimates


@pytest.fixture(scope="module")
def found():
    return table()


@pytest.mark.slow
def test_each_interval_covers_what_it_is_about(found):
    """Seed SD 0, 7 and 17 points; 3, 5 and 10 seeds; design effect 1 and 3; shares and paired differences."""
    assert len(found) == 2 * 3 * 3 * 2
    for name in ("within", "across"):
        assert found[name].between(0.93, 0.97).all(), markdown(found)


@pytest.mark.slow
def test_neither_is_about_both_and_the_crossed_bootstrap_is_not_either(found):
    """Why there are two, and why they are named: asked for other seeds *and* other examples each of them can fail."""
    apart = found[found["seed SD"] == 0.17]
    assert (apart["within, of both"] < 0.8).all()
    alike = found[(found["seed SD"] == 0) & (found["design effect"] == 3) & (found["of"] == "share")]
    assert (alike["across, of both"] < 0.8).all()
    three = found[(found["seed SD"] == 0.17) & (found["seeds"] == 3)]
    assert (three["crossed bootstrap, of both"] < 0.88).all()


@pytest.mark.parametrize("effect", [1, 3])
def test_the_simulation_is_of_the_project_s_own_intervals(effect):
    arms = simulate(np.random.default_rng(5), 3, 0.1, effect, 4, (0.4, 0.6))
    for chosen in (arms[:1], arms):
        cells = np.stack([one.sums / one.size for one in chosen])
        cells = cells[0] if len(chosen) == 1 else cells[0] - cells[1]
        low, high = interval_within(cells, 300)
        for k in range(4):
            sides = [
                Sums(
                    one.sums[k][:, :, None],
                    np.full_like(one.sums[k], one.size)[:, :, None],
                    range(cells.shape[2]),
                )
                for one in chosen
            ]
            row = estimates(sides, [True], "within", resamples=300)[-1]
            assert (row.low[0], row.high[0]) == pytest.approx((low[k], high[k]))
