"""The command line from outside: exit codes, one-paragraph errors, and the whole way from nothing to a table."""

import gc
import json
import sys

import numpy as np
import pandas as pd
import pytest
import warm
from synthetic import make_study

from cr_interp import cli
from cr_interp.errors import UserError
from cr_interp.study.study import Study
from training.studies.pipeline import capture_study, config_of


def run(*words, code=0, cwd=None, cold=False):
    """``cold``: once for each command, in an interpreter of its own."""
    done = warm.run([sys.executable, "-m", "cr_interp", *map(str, words)], cwd=cwd, cold=cold)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table", "nowhere"], "There is no study 'nowhere'"),
        (["reproduce", "organsim"], "Did you mean 'organism'"),
        (["distill", "organism-shift", "training.stps=3"], "Did you mean 'steps'"),
        (["distill", "organism-shift", "task=rules:shft"], "Did you mean 'rules:shift'"),
        (["distill", "organism-shift", "model=builtin:organism-rule"], "builtin:organism-rules"),
        (["distill", "organism-shift", "--arms", "ncaa"], "Did you mean 'nca'"),
        (["distill", "organism-shift", "--seeds", "a"], "whole numbers"),
        (["compare", "x"], "Missing option"),
        (["explain", "organism-shift", "--analyses", "knokout"], "Did you mean 'knockout'"),
        (["explain", "organism-shift", "--cuts", "x"], "--cuts is a list of whole numbers"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(words, said, tmp_path):
    done = run(*words, code=2, cwd=tmp_path)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_controls_of_a_measure_without_a_best_value_are_of_every_layer(tmp_path):
    make_study(tmp_path / "s")
    plain = run("controls", tmp_path / "s", "--measure", "shift_share")
    assert "no layer is worst: every layer" in plain.stdout
    assert "times as far" not in plain.stdout
    words = ("controls", tmp_path / "s", "--measure", "shift_share", "--markdown")
    assert run(*words).stdout == run(*words, "--layers").stdout
    assert len(run(*words).stdout.splitlines()) > len(
        run("controls", tmp_path / "s", "--markdown").stdout.splitlines()
    )


@pytest.mark.slow
def test_table_json_is_what_anybody_recomputes_from_generations(tmp_path):
    study = make_study(tmp_path / "s")
    found = json.loads(run("table", tmp_path / "s", "--json", cold=True).stdout)
    assert {tuple(row) for row in found} == {
        ("arm", "seed", "metric", "estimate", "low", "high", "n", "interval")
    }
    rows = study.table("generations")
    rows["right"] = rows["outcome"] == "right"
    wide = (
        rows[rows["control"].isin(["none", "exact"])]
        .pivot_table(index=["arm", "seed", "example_id"], columns="view", values="right", aggfunc="first")
        .astype(bool)
        .reset_index()
    )
    table = {(r["arm"], r["seed"], r["metric"]): r for r in found}
    for (arm, seed), part in wide.groupby(["arm", "seed"]):
        x, c = part["no_context"], part["with_context"]
        assert table[arm, seed, "acc_x"]["estimate"] == pytest.approx(x.mean())
        assert table[arm, seed, "acc_xc"]["estimate"] == pytest.approx(c.mean())
        assert table[arm, seed, "both_correct"]["estimate"] == pytest.approx((x & c).mean())
        assert table[arm, seed, "harm"]["estimate"] == pytest.approx((x & ~c).sum() / x.sum())
        assert table[arm, seed, "harm"]["n"] == x.sum()
    assert table["opd", None, "harm"]["low"] <= table["opd", None, "harm"]["estimate"]
    harms = [table["opd", seed, "harm"]["estimate"] for seed in (0, 1, 2)]
    mean, half = np.mean(harms), 4.302653 * np.std(harms, ddof=1) / np.sqrt(3)  # Student's t, df = 2
    over = table["opd", None, "harm"]
    assert over["interval"] == "across"
    assert [over["estimate"], over["low"], over["high"]] == pytest.approx(
        [mean, max(0, mean - half), min(1, mean + half)]
    )
    assert {table["opd", seed, "harm"]["interval"] for seed in (0, 1, 2)} == {"within"}
    within = json.loads(run("table", tmp_path / "s", "--json", "--interval", "within").stdout)
    assert {row["interval"] for row in within} == {"within"}
    assert ("opd", 0, "min_cosine") in table


@pytest.mark.slow
def test_reproduce_from_nothing_then_again_then_compare(tmp_path):
    short = [
        "training.eval_every=2",
        "training.eval_examples=8",
        "training.save_every=2",
        "evaluation.examples=16",
        "evaluation.permutations=9",
    ]
    words = ["reproduce", "organism-shift", *short, "--seeds", "0,1", "--steps", "4", "--out", tmp_path]
    assert "opd" in run(*words, cwd=tmp_path).stdout
    study = Study.open(tmp_path / "organism-shift")
    rows = study.table("generations")
    assert set(zip(rows["arm"], rows["seed"], strict=True)) == {
        ("base", 0),
        ("opd", 0),
        ("opd", 1),
        ("nca", 0),
        ("nca", 1),
    }
    drift = study.table("drift")
    assert {"cosine", "centred_cosine", "relative_l2", "cka", "cka_examples"} <= set(drift["measure"])
    embedding = drift[(drift["site"] == "resid_pre") & (drift["measure"] == "cosine")]
    embedding = embedding[embedding["control"] != "floor"]
    assert embedding["estimate"].min() == pytest.approx(1.0)
    assert study.manifest["finished"]
    before = {p: p.stat().st_mtime_ns for p in study.path.rglob("*.parquet")}
    run(*words, cwd=tmp_path, cold=True)
    assert before == {p: p.stat().st_mtime_ns for p in study.path.rglob("*.parquet")}
    assert "another configuration" in run(*words, "training.lr=1", code=2, cwd=tmp_path).stderr

    # Checkpoints on the way, on request; they change no number of the last step.
    table = run("table", str(study.path), "--json", cwd=tmp_path).stdout
    for command in ("evaluate", "capture"):
        run(command, str(study.path), "--every-step", cwd=tmp_path, cold=True)
    trained = "arm != 'base'"
    assert set(study.table("generations").query(trained)["step"]) == {2, 4}
    assert set(study.table("drift").query(trained)["step"]) == {2, 4}
    assert set(study.table("token_drift").query(trained)["step"]) == {4}
    assert run("table", str(study.path), "--json", cwd=tmp_path).stdout == table

    # On one arm's responses, every checkpoint is measured on the same tokens.
    fixed = [*short, "evaluation.responses=opd", "name=fixed", "--seeds", "0", "--steps", "4", "--out", tmp_path]
    run(*words[:2], *fixed, cwd=tmp_path)
    cosines = Study.open(tmp_path / "fixed").table("drift").query("measure == 'cosine' and control == 'exact'")
    assert cosines["n_tokens"].nunique() == 1
    _, config = config_of(str(tmp_path / "fixed"))
    config.evaluation.responses = "opdd"
    with pytest.raises(UserError, match="Did you mean 'opd'"):
        capture_study(study, config)

    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": p, "answer": p}) + "\n" for p in ("abcd", "hgfe", "aaaa"))
    )
    (tmp_path / "c.txt").write_text("repeat the text")
    arms = ["base=builtin:organism-rules", f"opd={study.path / 'runs/opd-s0/checkpoint-4'}"]
    run("compare", *arms, "--prompts", "p.jsonl", "--context", "c.txt", "--out", "mine", cwd=tmp_path)
    mine = Study.open(tmp_path / "mine")
    again = run(
        "compare",
        *arms,
        "--prompts",
        "p.jsonl",
        "--context",
        "c.txt",
        "--out",
        "mine",
        code=2,
        cwd=tmp_path,
        cold=True,
    )
    assert "already holds a finished study" in again.stderr
    base = mine.table("generations").query("arm == 'base' and view == 'with_context'")
    assert base["outcome"].tolist() == ["right"] * 3
    assert isinstance(mine.table("drift"), pd.DataFrame)
    assert "opd" in run("table", "mine", cwd=tmp_path).stdout


def test_cycles_are_looked_for_late_at_first_and_then_often(monkeypatch):
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    monkeypatch.setattr(cli, "_FIRST", 5000)
    try:
        gc.collect()
        cli._collect_later()
        assert gc.get_threshold()[0] == 5000
        kept = [[] for _ in range(6000)]  # more than the first look waits for
        assert gc.get_threshold()[0] == cli._OFTEN
        assert gc.callbacks == callbacks
        assert len(kept) == 6000
    finally:
        gc.set_threshold(*before)
        gc.callbacks[:] = callbacks
