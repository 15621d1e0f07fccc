"""The panel against plain numpy over all tokens at once."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cr_interp.errors import UserError
from cr_interp.similarity import MEASURES, DriftAccumulator, cka, unrelated
from cr_interp.similarity import panel as layers_panel
from cr_interp.statistics import bootstrap_weights

torch.set_num_threads(1)
WIDTH = 12
#: Procrustes has no interval, k-NN chance is exact, and the trimmed dimensions are those of the first batch.
WITH_INTERVAL = tuple(
    name
    for name in MEASURES
    if name not in ("procrustes", "knn_chance", "cosine_trimmed", "top3_share", "knn_overlap")
)


def states(examples: int = 30, tokens: int = 3, noise: float = 0.5, seed: int = 0, mean: float = 2.0):
    """Float32 states with a common component, an effect of the example, and one of the token."""
    rng = np.random.default_rng(seed)
    common = mean * rng.normal(size=WIDTH)
    effect = rng.normal(size=(examples, 1, WIDTH))
    x = common + (effect + rng.normal(size=(examples, tokens, WIDTH))).reshape(-1, WIDTH)
    y = x + 0.3 + noise * rng.normal(size=x.shape)
    example = torch.arange(examples).repeat_interleave(tokens)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32), example


def panel(x, y, example, batch: int | None = None, resamples: int = 300, **more):
    """Stream whole examples, ``batch`` at a time, and return {measure: row}."""
    drift = DriftAccumulator(x.shape[1], **more)
    ids = example.unique()
    for start in range(0, len(ids), batch or len(ids)):
        part = torch.isin(example, ids[start : start + (batch or len(ids))])
        drift.update(x[part], y[part], example[part])
    return {row["measure"]: row for row in drift.finish(resamples)}


def shift_share(x, y, example) -> float:
    """By its definition: products of movements of distinct examples only."""
    d = (y.double() - x.double()).numpy()
    ids = example.numpy()
    pairs = [(i, j) for i in range(len(d)) for j in range(len(d)) if ids[i] != ids[j]]
    return float(np.mean([d[i] @ d[j] for i, j in pairs]) / (d**2).sum(1).mean())


def plain(x, y, example) -> dict[str, float]:
    common = shift_share(x, y, example)
    x, y = x.double().numpy(), y.double().numpy()
    xc, yc = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    return {
        "cosine": ((x * y).sum(1) / norm(x, axis=1) / norm(y, axis=1)).mean(),
        "centred_cosine": (xc * yc).sum() / norm(xc) / norm(yc),
        "cosine_p5": np.quantile((x * y).sum(1) / norm(x, axis=1) / norm(y, axis=1), 0.05, method="inverted_cdf"),
        "relative_l2": (norm(x - y, axis=1) / norm(x, axis=1)).mean(),
        "norm_ratio": (norm(y, axis=1) / norm(x, axis=1)).mean(),
        "shift_share": common,
    }


def test_estimates_are_the_plain_computation():
    x, y, example = states()
    rows = panel(x, y, example)
    assert tuple(rows) == MEASURES
    for measure, expected in plain(x, y, example).items():
        assert rows[measure]["estimate"] == pytest.approx(expected, rel=1e-12)
    assert rows["cka"]["estimate"] == pytest.approx(cka(x.double(), y.double()), abs=1e-6)
    for name, row in rows.items():
        assert set(row) == {"measure", "estimate", "low", "high", "n_tokens", "n_examples", "reason"}
        assert (row["n_tokens"], row["n_examples"]) == (90, 30)
        if name in ("procrustes", "knn_chance"):
            assert "no interval" in row["reason"]
            continue
        assert row["reason"] is None
        assert row["low"] <= row["estimate"] <= row["high"]
        assert row["low"] < row["high"]


def test_intervals_recompute_everything_per_replicate():
    """Replicates by really repeating the drawn examples' rows."""
    x, y, example = states(examples=12)
    rows = panel(x, y, example, resamples=40)
    repeated: dict[str, list[float]] = {}
    for weights in bootstrap_weights(12, 40):
        times = torch.tensor(weights, dtype=torch.long)[example]
        drawn = (side.repeat_interleave(times, 0) for side in (x, y, example))
        for measure, value in plain(*drawn).items():
            repeated.setdefault(measure, []).append(value)
    for measure, values in repeated.items():
        tail = stats.norm.cdf(-stats.t.ppf(0.975, 11) * np.sqrt(12 / 11))  # expanded for 12 examples
        expected = np.quantile(values, [tail, 1 - tail])
        if measure == "shift_share":  # a squared length: its replicates' scatter, around the estimate
            expected += rows[measure]["estimate"] - np.median(values)
        assert [rows[measure]["low"], rows[measure]["high"]] == pytest.approx(expected, rel=1e-10)


def test_batches_do_not_matter():
    x, y, example = states()
    whole, pieces = panel(x, y, example), panel(x, y, example, batch=4)
    for measure in WITH_INTERVAL:
        for column in ("estimate", "low", "high"):
            assert pieces[measure][column] == pytest.approx(whole[measure][column], rel=1e-12)


def test_order_inside_a_batch_does_not_matter():
    x, y, example = states()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    whole, mixed = panel(x, y, example), panel(x[order], y[order], example[order])
    for measure in WITH_INTERVAL:
        assert mixed[measure]["low"] == pytest.approx(whole[measure]["low"], abs=1e-6)


def test_identical_views_do_not_drift():
    x, _, example = states()
    rows = panel(x, x, example)
    # CKA multiplies in the states' float32, xᵀx by other blocks than xᵀy: equal bits only on some processors.
    exact = {"cosine": (1, 1e-12), "centred_cosine": (1, 1e-12), "relative_l2": (0, 1e-12), "cka": (1, 1e-6)}
    for measure, (expected, rounding) in exact.items():
        for column in ("estimate", "low", "high"):
            assert rows[measure][column] == pytest.approx(expected, abs=rounding)


def test_unrelated_states_with_a_common_component():
    """Why the panel has more than a cosine."""
    x, _, example = states(60, 1, mean=10)
    _, y, _ = states(60, 1, seed=1, mean=10)
    y = y - y.mean(0) + x.mean(0)
    rows = panel(x, y, example)
    assert rows["cosine"]["estimate"] > 0.9
    for measure in ("centred_cosine", "cka"):
        assert abs(rows[measure]["estimate"]) < 0.1
        assert rows[measure]["low"] < 0 < rows[measure]["high"]


def test_a_massive_common_component_costs_no_digits():
    x, y, example = states(mean=0)
    shifted = panel(x.double() + 1e6, y.double() + 1e6, example)["centred_cosine"]
    assert shifted["estimate"] == pytest.approx(panel(x, y, example)["centred_cosine"]["estimate"], abs=1e-8)


def test_intervals_are_over_examples_not_tokens():
    """Repeating every token adds nothing; more examples do."""
    x, y, example = states(examples=40, tokens=1)
    once = panel(x, y, example)
    often = panel(x.repeat_interleave(5, 0), y.repeat_interleave(5, 0), example.repeat_interleave(5))
    many = panel(*states(examples=640, tokens=1))
    for measure in ("cosine", "centred_cosine", "relative_l2"):
        assert often[measure]["high"] == pytest.approx(once[measure]["high"], abs=1e-9)
    for measure in ("cosine", "centred_cosine", "relative_l2", "cka", "cka_examples"):
        width = {
            name: rows[measure]["high"] - rows[measure]["low"] for name, rows in (("once", once), ("many", many))
        }
        assert width["many"] < 0.5 * width["once"]


def test_masked_tokens_are_as_if_they_were_not_there():
    x, y, example = states()
    keep = torch.ones(len(x), dtype=torch.bool)
    keep[::3] = False
    keep[example == 5] = False
    x[~keep] = 1e6  # a sink
    masked = DriftAccumulator(WIDTH)
    masked.update(x, y, example, keep)
    without = DriftAccumulator(WIDTH)
    without.update(x[keep], y[keep], example[keep])
    assert repr(masked.finish(50)) == repr(without.finish(50))  # repr, since NaN is not equal to itself
    assert (masked.n_masked, without.n_masked) == (int((~keep).sum()), 0)
    assert masked.finish(50)[0]["n_examples"] == 29


def test_rows_for_the_interval_of_cka_are_whole_examples():
    x, y, example = states(examples=100, tokens=3)
    full = panel(x, y, example)["cka"]
    drift = DriftAccumulator(WIDTH, max_rows=100)
    for start in range(0, 300, 30):
        drift.update(*(part[start : start + 30] for part in (x, y, example)))
    part = {row["measure"]: row for row in drift.finish()}["cka"]
    assert drift._kept.rows == 99
    assert all(len(rows) == 3 for _, rows, _ in drift._kept.examples.values())
    assert part["estimate"] == full["estimate"], "the estimate uses all rows"
    # A third of the examples, scaled back: about the same width.
    assert 0.6 < (part["high"] - part["low"]) / (full["high"] - full["low"]) < 1.7
    backwards = DriftAccumulator(WIDTH, max_rows=100)
    for start in reversed(range(0, 300, 30)):
        backwards.update(*(part[start : start + 30] for part in (x, y, example)))
    assert set(backwards._kept.examples) == set(drift._kept.examples), "not the first or last to arrive"
    other = DriftAccumulator(WIDTH, max_rows=100, seed=1)
    other.update(x, y, example)
    assert set(other._kept.examples) != set(drift._kept.examples)


def test_responses_too_long_for_an_interval():
    x, y, example = states(examples=20, tokens=10)
    row = panel(x, y, example, max_rows=25)["cka"]
    assert math.isfinite(row["estimate"])
    assert math.isnan(row["low"])
    assert "max_rows = 25" in row["reason"]


def test_undefined_is_nan_with_a_reason():
    empty = DriftAccumulator(WIDTH).finish()
    assert [row["reason"] for row in empty] == ["no tokens"] * len(MEASURES)
    x, y, example = states()
    constant = panel(torch.full_like(x, 0.1), y, example)
    for measure in ("centred_cosine", "cka"):
        assert math.isnan(constant[measure]["estimate"])
        assert math.isnan(constant[measure]["low"])
        assert "constant" in constant[measure]["reason"]
    assert math.isfinite(constant["cosine"]["estimate"])
    zero = x.clone()
    zero[3] = 0
    rows = panel(zero, y, example)
    for measure in ("cosine", "relative_l2"):
        assert math.isnan(rows[measure]["estimate"])
        assert "norm 0" in rows[measure]["reason"]
    assert math.isfinite(rows["centred_cosine"]["low"])
    few = panel(x[:3], y[:3], torch.tensor([0, 1, 2]))
    assert "at least 4" in few["cka"]["reason"]
    assert math.isfinite(few["cosine"]["low"])
    one = panel(x[:5], y[:5], torch.zeros(5, dtype=torch.long))
    assert all(math.isnan(row["low"]) and row["reason"] for row in one.values())
    for measure in ("cosine", "centred_cosine", "relative_l2", "cka"):
        assert one[measure]["reason"] == "no interval: one example"
        assert math.isfinite(one[measure]["estimate"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_states_that_are_not_finite_name_their_examples(bad):
    x, y, example = states()
    y[example == 7, 2] = bad
    drift = DriftAccumulator(WIDTH)
    with pytest.raises(UserError, match=r"in the examples 7\. "):
        drift.update(x, y, example)
    assert drift.n_tokens == 0
    drift.update(x, y, example, keep=example != 7)
    assert drift.n_examples == 29


def test_misuse():
    x, y, example = states()
    drift = DriftAccumulator(WIDTH)
    drift.update(x, y, example)
    with pytest.raises(ValueError, match="earlier update"):
        drift.update(x[:3], y[:3], example[:3])
    with pytest.raises(ValueError, match="shape"):
        drift.update(x[:, :5], y[:, :5], example)


def test_trimmed_cosine_leaves_out_the_dimensions_that_make_it():
    x, y, example = states(mean=0)
    x[:, 3] += 100
    y[:, 3] += 100
    rows = panel(x, y, example)
    assert rows["cosine"]["estimate"] > 0.99
    assert rows["top3_share"]["estimate"] > 0.95
    others = [d for d in range(WIDTH) if d != 3]
    without = [d for d in others if d not in torch.topk((x * y)[:, others].sum(0).abs(), 0).indices]
    assert rows["cosine_trimmed"]["estimate"] < plain(x[:, without], y[:, without], example)["cosine"] + 0.05


def test_a_common_shift_is_all_of_a_common_shift():
    x, _, example = states()
    assert panel(x, x + 1, example)["shift_share"]["estimate"] == pytest.approx(1, abs=1e-6)
    still = panel(x, x, example)["shift_share"]
    assert math.isnan(still["estimate"])
    assert still["reason"] == "the states do not move"


def test_the_public_panel_has_a_floor():
    x, y, example = states(40, 2)
    table = layers_panel({0: x}, {0: y}, example).set_index(["control", "measure"])["estimate"]
    assert table["given", "cka"] > 0.5
    assert abs(table["floor", "cka_examples"]) < 0.3
    assert table["floor", "cosine"] < table["given", "cosine"]
    with pytest.raises(UserError, match="same tokens"):
        layers_panel({0: x}, {0: y[:-1]}, example)
    with pytest.raises(UserError, match="different layers"):
        layers_panel({0: x}, {1: y}, example)


def test_two_shared_sinks_make_unrelated_states_look_alike_unless_masked():
    x, _, example = states(60, 1, mean=0)
    _, y, _ = states(60, 1, seed=1, mean=0)
    for row in (5, 21):
        x[row] = y[row] = 1000.0
    masked, kept = (
        layers_panel({0: x}, {0: y}, example, mask_sinks=mask)
        .query("control == 'given' and measure == 'cka'")
        .iloc[0]
        for mask in (True, False)
    )
    assert (masked["n_masked"], kept["n_masked"]) == (2, 0)
    assert abs(masked["estimate"]) < 0.2
    assert kept["estimate"] > 0.99


def test_unrelated_tokens_are_at_the_same_place_of_another_response():
    here, there = unrelated(torch.tensor([4, 4, 4, 7, 7, 9]))
    assert here.tolist() == [0, 1, 3, 5]
    assert there.tolist() == [3, 4, 5, 0]
    assert len(unrelated(torch.tensor([1, 1]))[0]) == 0


def test_example_level_cka_is_not_raised_by_tokens_of_one_response():
    rng = np.random.default_rng(0)
    x, y = (
        torch.tensor(
            rng.normal(size=(20, 1, WIDTH)) + 0.1 * rng.normal(size=(20, 5, WIDTH)), dtype=torch.float32
        ).reshape(-1, WIDTH)
        for _ in range(2)
    )
    rows = panel(x, y, torch.arange(20).repeat_interleave(5))
    assert rows["cka"]["estimate"] > rows["cka_examples"]["estimate"] + 0.1
    assert rows["cka_examples"]["low"] < 0 < rows["cka_examples"]["high"]


def test_example_level_cka_meets_examples_of_distinct_clusters_only():
    """Unrelated views of phrases in four frames each: frames are alike in either view, which says nothing about the views."""
    rng = np.random.default_rng(8)
    found: dict[str, list[float]] = {"examples": [], "clusters": []}
    for _ in range(60):
        x, y = (
            (rng.normal(size=(6, 1, 1, WIDTH)) + 0.3 * rng.normal(size=(6, 4, 2, WIDTH))).reshape(-1, WIDTH)
            for _ in range(2)
        )
        drift = DriftAccumulator(WIDTH, measures=("cka_examples",), tokens=2)
        drift.update(torch.tensor(x), torch.tensor(y), torch.arange(24).repeat_interleave(2))
        for name, clusters in (("examples", None), ("clusters", [one // 4 for one in range(24)])):
            found[name].append(drift.finish(0, clusters=clusters)[0]["estimate"])
    mean = {name: np.mean(values) for name, values in found.items()}
    error = np.std(found["clusters"]) / math.sqrt(60)
    assert abs(mean["clusters"]) < 3 * error
    assert mean["examples"] > 0.25


def test_three_clusters_have_no_example_level_cka_however_many_examples():
    x, y, example = states(examples=12)
    drift = DriftAccumulator(WIDTH, measures=("cka", "cka_examples"))
    drift.update(x, y, example)
    rows = {row["measure"]: row for row in drift.finish(50, clusters=[one % 3 for one in range(12)])}
    assert math.isnan(rows["cka_examples"]["estimate"])
    assert "12 examples are 3 clusters" in rows["cka_examples"]["reason"]
    assert math.isfinite(rows["cka"]["estimate"])
    assert np.isnan(drift.permuted(5, clusters=[one % 3 for one in range(12)])).all()


def test_permuted_examples_have_the_scale_of_the_estimate():
    """With clusters the denominator of both leaves pairs within a cluster out; the numerators are the same permutations'."""
    x, y, example = states(examples=16)
    clusters = [one // 2 for one in range(16)]
    drift = DriftAccumulator(WIDTH, measures=("cka_examples",))
    drift.update(x, y, example)
    plain, between = drift.permuted(9), drift.permuted(9, clusters=clusters)
    ratio = between / plain
    assert ratio == pytest.approx(np.full(9, ratio[0]))
    # x with itself: HSIC between clusters and between examples, from all pairs by hand.
    assert ratio[0] == pytest.approx(_own(x, y, example // 1) / _own(x, y, example // 2), rel=1e-6)


def _own(x, y, unit) -> float:
    """√(HSIC(x, x)·HSIC(y, y)) over rows of distinct units."""
    product = 1.0
    apart = (unit[:, None] != unit).double()
    for side in (x, y):
        k = (side.double() - side.double().mean(0)) @ (side.double() - side.double().mean(0)).T
        triples = torch.einsum("ij,iq,jq->ijq", apart, apart, apart)
        fours = torch.einsum("ijq,ir,jr,qr->ijqr", triples, apart, apart, apart)
        product *= float(
            (apart * k * k).sum() / apart.sum()
            - 2 * torch.einsum("ijq,ij,iq->", triples, k, k) / triples.sum()
            + torch.einsum("ijqr,ij,qr->", fours, k, k) / fours.sum()
        )
    return math.sqrt(product)
