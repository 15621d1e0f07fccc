"""Numbers with their two intervals: what each is over, and what is said where little or nothing happened."""

import numpy as np
import pytest

from cr_interp.errors import UserError
from cr_interp.statistics import clopper_pearson, next_seed, t_interval
from cr_interp.tables.estimates import Sums, estimates, kind_named


def shares(hits, clusters=None, asked=None) -> Sums:
    """``hits`` is [seeds, examples], of one number."""
    num = np.asarray(hits, dtype=float)[:, :, None]
    den = np.ones_like(num) if asked is None else np.asarray(asked, dtype=float)[:, :, None]
    return Sums(num, den, clusters or list(range(num.shape[1])))


def last(*sides, kind="across", share=True):
    row = estimates(sides, [share], kind, resamples=500)[-1]
    return row.kinds[0], row.estimate[0], row.low[0], row.high[0]


def test_across_is_t_over_the_seeds_estimates():
    rng = np.random.default_rng(0)
    hits = rng.random((4, 100)) < np.array([[0.2], [0.3], [0.5], [0.4]])
    low, high = t_interval(hits.mean(1))
    assert last(shares(hits)) == ("across", pytest.approx(hits.mean()), pytest.approx(low), pytest.approx(high))


def test_across_does_not_narrow_with_more_examples_and_within_does():
    few = np.tile(np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]), 8)
    many = np.tile(few, 10)
    for kind, factor in (("across", 1.0), ("within", 10**-0.5)):
        width = [last(shares(hits), kind=kind)[3] - last(shares(hits), kind=kind)[2] for hits in (few, many)]
        assert width[1] == pytest.approx(factor * width[0], rel=0.15)


def test_a_difference_is_paired_over_seeds():
    """Seeds differ a lot, and the two arms by the same in each: the difference is known well."""
    base = np.array([[1] * 20 + [0] * 80, [1] * 50 + [0] * 50, [1] * 80 + [0] * 20])
    more = np.array([[1] * 30 + [0] * 70, [1] * 61 + [0] * 39, [1] * 89 + [0] * 11])
    kind, estimate, low, high = last(shares(more), shares(base))
    assert (kind, estimate) == ("across", pytest.approx(0.1))
    assert 0 < low < high < 0.2
    row = estimates([shares(more), shares(base)], [True])[-1]
    assert row.p[0] < 0.05
    assert row.p_sign_flip[0] == 2 / 8


def test_clusters_count_and_not_the_examples_in_them():
    once = (np.arange(40) % 2 == 0)[None]
    copied = np.repeat(once, 8, axis=1)
    clusters = [i // 8 for i in range(320)]
    assert last(shares(copied, clusters)) == last(shares(once))
    assert last(shares(copied))[3] < last(shares(once))[3] - 0.05, "as if each copy were a new example"


@pytest.mark.parametrize(("hit", "of"), [(0, 256), (256, 256), (0, 1), (3, 40), (38, 40), (4, 8)])
def test_few_events_in_a_run_have_clopper_pearson_s_interval(hit, of):
    found = last(shares([[1] * hit + [0] * (of - hit)]))
    assert found[2:] == pytest.approx(clopper_pearson(hit, of))


def test_no_event_in_any_run_has_the_next_seed_s():
    none = np.zeros((3, 256))
    assert last(shares(none)) == ("across", 0, *next_seed(0, 3 * 256, 256))
    assert last(shares(none), kind="within")[3] == pytest.approx(clopper_pearson(0, 256)[1])
    phrases = [i // 8 for i in range(256)]
    assert last(shares(none, phrases))[3] == next_seed(0, 3 * 32, 32)[1], "32 phrases are 32"
    assert last(shares(1 - none))[2:] == pytest.approx((1 - 2 / 256, 1))


def test_seeds_that_agree_exactly_do_not_make_a_number_exact():
    same = np.tile([1] * 30 + [0] * 70, (3, 1))
    _, estimate, low, high = last(shares(same))
    assert 0.15 < low < estimate < high < 0.45
    for kind in ("within", "across"):
        _, estimate, low, high = last(shares(same), shares(same), kind=kind)
        assert (estimate, low) == (0, -high)
        assert 0 < high < 0.05


def test_what_one_seed_alone_has_is_within():
    """Harm of a seed that is never right without the context is undefined: of two seeds one is left."""
    asked = [[1] * 40, [0] * 40]
    kind, estimate, low, high = last(shares([[1, 0] * 20, [0] * 40], asked=asked))
    assert kind == "within"
    assert low < estimate == 0.5 < high
    kind, *numbers = last(shares([[0] * 4] * 2, asked=[[0] * 4] * 2))
    assert np.isnan(numbers).all(), "of no seed: nothing"


def test_no_interval_leaves_its_estimate_or_the_possible_values():
    rng = np.random.default_rng(1)
    for _ in range(60):
        seeds, n = rng.integers(1, 6), rng.integers(1, 30)
        asked = (rng.random((seeds, n)) < rng.random()).astype(float)
        one, other = (asked * (rng.random((seeds, n)) < rng.random() ** 3) for _ in range(2))
        clusters = rng.integers(0, n, n).tolist()
        for sides in ([one], [one, other]):
            for kind in ("within", "across"):
                for row in estimates([shares(s, clusters, asked) for s in sides], [True], kind, resamples=100):
                    known = ~np.isnan(row.estimate)
                    assert (row.low[known] <= row.estimate[known]).all()
                    assert (row.estimate[known] <= row.high[known]).all()
                    assert (row.low[known] < row.high[known]).all()
                    least = 0 if len(sides) == 1 else -1
                    assert ((row.low[known] >= least) & (row.high[known] <= 1)).all()


def test_a_kind_that_does_not_exist_is_refused():
    assert kind_named("within") == "within"
    with pytest.raises(UserError, match="Did you mean 'across'"):
        kind_named("accross")
