"""Metrics of the answers: a table small enough to do by hand, then properties that always hold."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cr_interp.errors import UserError
from cr_interp.tables import behaviour

FEW = 200  # resamples


def answers(x: str, xc: str, arm="opd", seed=0, control="exact", tokens=None, sample=0, step=100, split="test"):
    """One letter per example and view: r(ight), w(rong), u(nparsable), t(runcated)."""
    outcome = {name[0]: name for name in behaviour.OUTCOMES}
    tokens = tokens or ([4] * len(x), [4] * len(xc))
    rows = []
    for view, letters, lengths in (("no_context", x, tokens[0]), ("with_context", xc, tokens[1])):
        for index, (letter, length) in enumerate(zip(letters, lengths, strict=True)):
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "step": step,
                    "split": split,
                    "example_id": f"e{index}",
                    "view": view,
                    "control": "none" if view == "no_context" else control,
                    "sample": sample,
                    "prompt": "p",
                    "response": "r",
                    "n_tokens": length,
                    "outcome": outcome[letter],
                }
            )
    return pd.DataFrame(rows)


def table(*parts):
    return pd.concat(parts, ignore_index=True)


def value(rows: pd.DataFrame, metric: str, seed=None, **where) -> pd.Series:
    chosen = rows[(rows["metric"] == metric) & (rows["seed"].isna() if seed is None else rows["seed"].eq(seed))]
    for column, wanted in where.items():
        chosen = chosen[chosen[column] == wanted]
    assert len(chosen) == 1
    return chosen.iloc[0]


# -- by hand -------------------------------------------------------------------------------------------------


def test_six_examples_by_hand():
    rows = behaviour.metrics(answers("rrrwwt", "rwurww", tokens=([2] * 6, [2, 2, 2, 4, 4, 4])))
    expected = {
        "acc_x": (3 / 6, 6),
        "acc_xc": (2 / 6, 6),
        "both_correct": (1 / 6, 6),
        "harm": (2 / 3, 3),
        "rescue": (1 / 3, 3),
        "delta_len": (0.5, 6),
    }
    assert list(rows.columns) == ["arm", "seed", "metric", "estimate", "low", "high", "n", "interval"]
    assert str(rows["seed"].dtype) == "Int64"
    assert len(rows) == 12
    for seed in (0, None):
        for metric, (estimate, n) in expected.items():
            row = value(rows, metric, seed)
            assert row["estimate"] == pytest.approx(estimate)
            assert row["n"] == n
            assert row["low"] <= row["estimate"] <= row["high"]


def test_harm_is_undefined_if_nothing_is_right_without_context():
    rows = behaviour.metrics(answers("www", "rrw"), resamples=FEW)
    harm = value(rows, "harm")
    assert np.isnan(harm[["estimate", "low", "high"]].astype(float)).all()
    assert harm["n"] == 0
    assert value(rows, "rescue")["estimate"] == pytest.approx(2 / 3)


def test_over_seeds_is_the_ratio_of_sums_within_and_the_mean_of_the_seeds_across():
    data = table(answers("rrrr", "rrww"), answers("rwww", "wwww", seed=1))
    rows = behaviour.metrics(data, resamples=FEW, interval="within")
    assert value(rows, "harm", 0)["estimate"] == 0.5
    assert value(rows, "harm", 1)["estimate"] == 1.0
    over = value(rows, "harm")
    assert over["estimate"] == pytest.approx(3 / 5)
    assert over["n"] == 5
    assert over["interval"] == "within"
    across = value(behaviour.metrics(data, resamples=FEW), "harm")
    assert across["estimate"] == pytest.approx((0.5 + 1) / 2)
    assert (across["n"], across["interval"]) == (5, "across")


def test_samples_pair_one_by_one_and_examples_are_resampled():
    one = answers("rw", "ww")
    two = table(one, answers("rr", "rw", sample=1))
    rows = behaviour.metrics(two, resamples=FEW)
    assert value(rows, "harm")["estimate"] == pytest.approx(2 / 3)
    assert value(rows, "acc_x")["n"] == 4
    # Copying every answer adds no information: the interval must not shrink.
    copies = table(*[one.assign(sample=k) for k in range(5)])
    assert_frame_equal(
        behaviour.metrics(one, resamples=FEW).drop(columns="n"),
        behaviour.metrics(copies, resamples=FEW).drop(columns="n"),
    )


def test_the_last_step_and_the_asked_split_and_control_count():
    data = table(
        answers("ww", "ww", step=50),
        answers("rr", "rr", step=100),
        answers("ww", "ww", step=100, split="validation"),
        answers("rr", "wr", control="irrelevant").query("view == 'with_context'"),
    )
    assert value(behaviour.metrics(data, resamples=FEW), "acc_x")["estimate"] == 1
    assert value(behaviour.metrics(data, resamples=FEW, split="validation"), "acc_x")["estimate"] == 0
    assert value(behaviour.metrics(data, "irrelevant", resamples=FEW), "harm")["estimate"] == 0.5


def test_an_arm_without_the_control_is_there_and_undefined():
    rows = behaviour.metrics(table(answers("rr", "rw"), answers("rr", "rr", arm="nca", seed=2)), "paraphrase")
    assert set(rows["arm"]) == {"opd", "nca"}
    assert rows["estimate"].isna().all()
    assert (rows["n"] == 0).all()
    assert behaviour.regimes(answers("rr", "rw"), "paraphrase")["regime"].isna().all()


def test_an_answer_without_its_partner_is_left_out():
    data = answers("rrrr", "rwrr")
    rows = behaviour.metrics(data.drop(index=7), resamples=FEW)  # e3 with context
    assert value(rows, "acc_x")["n"] == 3
    assert value(rows, "harm")["estimate"] == pytest.approx(1 / 3)


def test_empty_table():
    empty = answers("r", "r").iloc[:0]
    assert behaviour.metrics(empty).empty
    assert behaviour.outcome_shares(empty).empty
    assert behaviour.regimes(empty).empty
    assert behaviour.harm_on_common(empty).empty
    assert behaviour.metrics_json(behaviour.metrics(empty)) == []


def test_errors_say_what_is_there():
    data = answers("rr", "rw")
    with pytest.raises(UserError, match=r"control 'exat'.*'exact'"):
        behaviour.metrics(data, control="exat")
    with pytest.raises(UserError, match="split 'tset'"):
        behaviour.metrics(data, split="tset")
    with pytest.raises(UserError, match="arm 'ncaa'"):
        behaviour.differences(data, "ncaa", "opd")
    with pytest.raises(UserError, match=r"2 answers twice.*seed 0.*example_id e0"):
        behaviour.metrics(table(data, data[data["view"] == "no_context"]))
    with pytest.raises(UserError, match="without a seed"):
        behaviour.metrics(data.assign(seed=pd.NA))


# -- between arms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [None, float("nan"), "Right", "maybe", ""])
def test_an_unknown_outcome_is_not_a_wrong_answer(outcome):
    rows = table(answers("rw", "rr"))
    rows["outcome"] = rows["outcome"].astype(object)
    rows.loc[rows.index[0], "outcome"] = outcome
    for ask in (behaviour.metrics, behaviour.outcome_shares, behaviour.regimes):
        with pytest.raises(UserError, match="1 answers whose outcome is none of right, wrong"):
            ask(rows)


def test_identical_arms_do_not_differ_at_all():
    data = table(*[answers("rrwrwr", "rwrwwr", arm=arm, seed=s) for arm in ("opd", "nca") for s in (0, 1, 2)])
    for kind in ("within", "across"):
        rows = behaviour.differences(data, "nca", "opd", resamples=FEW, interval=kind)
        columns = ["metric", "seed", "estimate", "low", "high", "n", "interval", "p", "p_sign_flip"]
        assert list(rows.columns) == columns
        assert len(rows) == 7 * 4
        assert (rows["estimate"] == 0).all()
        # That nothing differed among so few says that little differs, not that nothing does.
        assert ((rows["low"] < 0) & (rows["high"] > 0)).all()
        assert (rows["low"] == -rows["high"]).all()
        assert (rows["p"].isna() | (rows["p"] == 1)).all()


def test_a_difference_is_paired_over_examples():
    """The arms differ by the same amount on nearly every example, though examples differ a lot."""
    opd, nca = "rw" * 50, "rw" * 49 + "rr"
    data = table(answers(opd, opd), answers(nca, nca, arm="nca"))
    row = value(behaviour.differences(data, "nca", "opd"), "acc_x")
    alone = value(behaviour.metrics(data), "acc_x", arm="opd")
    assert row["estimate"] == pytest.approx(0.01)
    assert row["high"] - row["low"] < 0.3 * (alone["high"] - alone["low"])
    assert row["n"] == 100


def test_a_baseline_with_one_seed_meets_every_seed():
    data = table(answers("wwww", "rrrr", arm="base"), answers("rrww", "rrrr"), answers("rrrr", "rrrr", seed=1))
    rows = behaviour.differences(data, "opd", "base", resamples=FEW)
    assert value(rows, "acc_x", 0)["estimate"] == 0.5
    assert value(rows, "acc_x", 1)["estimate"] == 1.0
    assert value(rows, "acc_x")["estimate"] == 0.75
    assert np.isnan(value(rows, "harm")["estimate"]), "base is never right without the context"


def test_a_trained_baseline_with_one_seed_meets_that_seed_only():
    data = table(
        answers("rrrr", "wwrr", arm="sft", seed=1),
        *(answers("rrrr", with_context, seed=seed) for seed, with_context in enumerate(("wwww", "rrrr", "wwrr"))),
    )
    for arm, baseline in (("opd", "sft"), ("sft", "opd")):
        rows = behaviour.differences(data, arm, baseline, resamples=FEW)
        assert set(rows["seed"].dropna()) == {1}
        over = value(rows, "harm")
        assert over["interval"] == "within"
        assert abs(over["estimate"]) == 0.5
        assert over["n"] == 4
        assert value(rows, "harm_common")["n"] == 4
    common = behaviour.harm_on_common(data, ["opd", "sft"], resamples=FEW)
    assert set(common["interval"]) == {"within"}
    with pytest.raises(UserError, match="no seed in common"):
        behaviour.differences(data[(data["arm"] == "sft") | (data["seed"] != 1)], "opd", "sft", resamples=FEW)


def test_two_runs_are_compared_whatever_their_seeds():
    data = table(answers("rrrr", "wwrr", arm="opd", seed=3), answers("rrrr", "rrrr", arm="nca", seed=1))
    over = value(behaviour.differences(data, "nca", "opd", resamples=FEW), "harm")
    assert (over["estimate"], over["interval"]) == (-0.5, "within")


def test_only_seeds_and_examples_that_both_have():
    data = table(
        *[answers("rrr", "rrr", seed=s) for s in (0, 1)],
        *[answers("rrw", "rww", arm="nca", seed=s) for s in (1, 2)],
    )
    rows = behaviour.differences(data[data["example_id"] != "e2"], "nca", "opd", resamples=FEW)
    assert set(rows["seed"].dropna()) == {1}
    assert value(rows, "harm")["estimate"] == 0.5
    apart = table(
        *[answers("r", "r", seed=s) for s in (0, 1)], *[answers("r", "r", "nca", seed=s) for s in (2, 3)]
    )
    with pytest.raises(UserError, match="no seed in common"):
        behaviour.differences(apart, "nca", "opd")


def test_harm_on_common_uses_one_denominator():
    data = table(answers("rrrw", "wrrr"), answers("rwrr", "rwwr", arm="nca"), answers("wwww", "rrrr", arm="base"))
    rows = behaviour.harm_on_common(data, resamples=FEW)
    assert set(rows["metric"]) == {"harm_common"}
    assert set(rows["arm"]) == {"nca", "opd"}
    # common: e0 and e2
    for arm in ("nca", "opd"):
        assert value(rows, "harm_common", arm=arm)["estimate"] == 0.5
        assert value(rows, "harm_common", arm=arm)["n"] == 2
    with_base = behaviour.harm_on_common(data, ["opd", "base"], resamples=FEW)
    assert with_base["estimate"].isna().all()
    assert (with_base["n"] == 0).all()
    with pytest.raises(UserError, match="arm 'dual'"):
        behaviour.harm_on_common(data, ["opd", "dual"])


def test_harm_on_common_of_one_arm_is_its_harm():
    data = table(
        *[
            answers(x, xc, seed=s, sample=k)
            for s, k, x, xc in (
                (0, 0, "rrwr", "rwwr"),
                (0, 1, "rrrr", "wrww"),
                (1, 0, "wwrr", "wwrw"),
                (1, 1, "rrww", "rwwr"),
            )
        ]
    )
    common = behaviour.harm_on_common(data, ["opd"], resamples=FEW).drop(columns="metric")
    harm = behaviour.metrics(data, resamples=FEW).query("metric == 'harm'").drop(columns="metric")
    assert_frame_equal(common, harm.reset_index(drop=True))


@pytest.mark.parametrize(
    ("x", "xc", "regime"),
    [
        ("r" * 40, "w" * 20 + "r" * 20, "A"),
        ("w" * 40, "w" * 20 + "r" * 20, "B"),
        ("rw" * 200, "rw" * 200, "C"),
        ("rw" * 20, "rw" * 20, "open"),  # of so few, a loss of two points would not be seen
    ],
)
def test_regimes(x, xc, regime):
    rows = behaviour.regimes(table(*[answers(x, xc, seed=seed) for seed in (0, 1, 2)]))
    assert list(rows.columns) == ["arm", "estimate", "low", "high", "interval", "seeds", "regime"]
    assert rows["regime"].tolist() == [regime]
    assert rows["interval"].tolist() == ["across"]
    alone = behaviour.regimes(answers(x, xc))
    assert alone["regime"].tolist() == ["open"], "one seed says nothing about the next"
    assert alone["interval"].tolist() == ["within"]
    assert behaviour.regimes(answers(x, xc, arm="base"))["regime"].tolist() == [regime], "base has no other seeds"


def test_a_regime_is_what_the_interval_over_seeds_says():
    """The context hurts in two runs of three: within these runs for certain, in the next one perhaps."""
    hurt, fine = ("r" * 100, "w" * 20 + "r" * 80), ("r" * 100, "r" * 100)
    data = table(*[answers(*letters, seed=seed) for seed, letters in enumerate((hurt, hurt, fine))])
    row = behaviour.regimes(data).iloc[0]
    assert row["regime"] == "open"
    assert row["low"] < 0 < row["high"]
    within = behaviour.metrics(data, interval="within")
    assert value(within, "harm")["low"] > 0.05


def test_outcome_shares():
    shares = behaviour.outcome_shares(table(answers("rrwt", "ruut"), answers("rr", "rr", seed=1)))
    assert list(shares.columns) == ["arm", "seed", "view", "control", "outcome", "share", "n"]
    assert len(shares) == 2 * 2 * 4
    group = shares.query("seed == 0 and view == 'with_context'").set_index("outcome")["share"]
    assert group.to_dict() == {"right": 0.25, "wrong": 0.0, "unparsable": 0.5, "truncated": 0.25}
    assert shares.groupby(["seed", "view"])["share"].sum().eq(1).all()
    assert set(shares.query("view == 'no_context'")["control"]) == {"none"}


def test_json_is_strict():
    rows = behaviour.metrics_json(behaviour.metrics(answers("ww", "rr", seed=7), resamples=FEW))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert set(rows[0]) == {"arm", "seed", "metric", "estimate", "low", "high", "n", "interval"}
    assert {row["seed"] for row in rows} == {7, None}
    harm = next(row for row in rows if row["metric"] == "harm")
    assert harm["estimate"] is None
    assert harm["n"] == 0


# -- properties ----------------------------------------------------------------------------------------------

letters = st.lists(st.tuples(st.sampled_from("rwut"), st.sampled_from("rwut")), min_size=1, max_size=8)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(first=letters, second=letters)
def test_identities(first, second):
    data = table(
        *[
            answers("".join(x for x, _ in pairs), "".join(xc for _, xc in pairs), seed=seed)
            for seed, pairs in enumerate((first, second))
        ]
    )
    rows = behaviour.metrics(data, resamples=50, interval="within")
    for seed in (0, 1, None):
        of = {metric: value(rows, metric, seed)["estimate"] for metric in behaviour.METRICS}
        harm = 0 if np.isnan(of["harm"]) else of["harm"]
        rescue = 0 if np.isnan(of["rescue"]) else of["rescue"]
        assert of["both_correct"] == pytest.approx(of["acc_x"] * (1 - harm))
        assert of["acc_xc"] == pytest.approx(of["acc_x"] * (1 - harm) + (1 - of["acc_x"]) * rescue)
    for table_ in (rows, behaviour.metrics(data, resamples=50)):
        shares = table_[table_["metric"] != "delta_len"].dropna(subset="estimate")
        assert ((shares["low"] >= 0) & (shares["high"] <= 1)).all()
        known = table_.dropna(subset="estimate")
        assert ((known["low"] <= known["estimate"]) & (known["estimate"] <= known["high"])).all()
        assert (known["low"] < known["high"]).all(), "nothing is known exactly"


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(pairs=letters, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_is_irrelevant(pairs, shuffle):
    x, xc = ("".join(letters) for letters in zip(*pairs, strict=True))
    data = table(answers(x, xc), answers(xc, x, seed=1), answers(xc, x, arm="nca"))
    order = list(range(len(data)))
    shuffle.shuffle(order)
    mixed = data.iloc[order]
    assert_frame_equal(behaviour.metrics(data, resamples=50), behaviour.metrics(mixed, resamples=50))
    assert_frame_equal(
        behaviour.harm_on_common(data, resamples=50), behaviour.harm_on_common(mixed, resamples=50)
    )
    assert_frame_equal(
        behaviour.differences(data, "opd", "nca", resamples=50),
        behaviour.differences(mixed, "opd", "nca", resamples=50),
    )


def test_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, cr_interp.tables.behaviour; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
