"""Explaining a study: what is stored, resumed, and refused in a sentence."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from tiny import tiny

from cr_interp.errors import UserError
from cr_interp.measure.compare import compare_checkpoints
from cr_interp.mechanism import patching
from cr_interp.mechanism.explain import Options, explain
from cr_interp.report.mechanism import printed as tables_printed
from cr_interp.study.analyses import ANALYSES
from cr_interp.study.schema import COLUMNS
from cr_interp.study.study import Study

CHANGED = Options(groups=("changed",), sites=("attn_out",))


def saved(folder, seed):
    loaded = tiny(seed=seed)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of two random models: none of their answers is right, and a context changes them all."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "c.txt").write_text("repeat the text")
    words = ["abcd", "hgfe", "aaaa", "bbcd", "cdab"]
    (folder / "p.jsonl").write_text("".join(json.dumps({"prompt": w, "answer": w}) + "\n" for w in words))
    pairs = [f"{arm}={saved(folder / arm, seed)}" for seed, arm in enumerate(("base", "opd"))]
    compare_checkpoints(
        pairs, folder / "study", prompts=folder / "p.jsonl", context=folder / "c.txt", max_new_tokens=3
    )
    return folder


@pytest.fixture
def study(made, tmp_path):
    shutil.copytree(made / "study", tmp_path / "study")
    return Study.open(tmp_path / "study")


def test_every_analysis_is_in_the_schema():
    assert {table for each in ANALYSES for table in each.tables} == set(COLUMNS) - {"generations"}
    assert all(list(each.tables)[-1] == each.table for each in ANALYSES)


@pytest.mark.slow
def test_fills_both_tables_of_every_arm(study):
    explain(study, ["patching"], options=CHANGED)
    table, examples = study.table("patching"), study.table("patching_examples")
    assert set(table["arm"]) == {"base", "opd"}
    assert set(table["readout"]) == {"share", "answer"}
    assert set(zip(table["site"], table["layer"], strict=True)) == {("attn_out", 0), ("attn_out", 1)}
    assert table["made_of"].notna().all()
    one = table[(table["arm"] == "opd") & (table["readout"] == "share") & (table["control"] == "none")].iloc[0]
    of = examples[
        (examples["arm"] == "opd")
        & (examples["direction"] == one["direction"])
        & (examples["layer"] == one["layer"])
        & (examples["control"] == "none")
    ]
    assert one["n_examples"] == len(of)
    share = (of["patched"] - of["received"]).sum() / (of["given"] - of["received"]).sum()
    assert one["estimate"] == pytest.approx(share)


@pytest.mark.slow
def test_stopped_and_typed_again_it_goes_on(study, monkeypatch):
    whole = explain(study, ["patching"], options=CHANGED).table("patching")
    for name in ("patching", "patching_examples"):
        study.table_path(name).unlink()
    ran = []
    run = patching.patch_pairs

    def stop_at_the_second(loaded, *rest, **options):
        ran.append(loaded.name)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run(loaded, *rest, **options)

    monkeypatch.setattr(patching, "patch_pairs", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        explain(study, ["patching"], options=CHANGED)
    explain(study, ["patching"], options=CHANGED)
    explain(study, ["patching"], options=CHANGED)
    assert [name.rpartition("/")[2] for name in ran] == ["base", "opd", "opd"]
    pd.testing.assert_frame_equal(study.table("patching"), whole)


def test_other_options_are_refused_and_made_anew_when_asked(study):
    explain(study, ["patching"], options=CHANGED)
    with pytest.raises(UserError, match=r"with another examples.*--again"):
        explain(Study.open(study.path), ["patching"], options=Options(("changed",), 2, ("attn_out",)))
    explain(Study.open(study.path), ["patching"], options=Options(("changed",), 2, ("attn_out",)), again=True)
    assert study.table("patching")["n_examples"].max() == 2


def test_a_study_without_flips_is_refused_and_offers_what_there_is(study):
    with pytest.raises(
        UserError, match=r"No answer of study flips .*harmed, rescued: 0 in 2.*--groups changed,kept"
    ):
        explain(study)


def test_a_study_of_tables_only_is_refused(study, made):
    manifest = study.manifest
    arms = {arm: {**about, "model": about["model"] + "-gone"} for arm, about in manifest["arms"].items()}
    with pytest.raises(UserError, match="holds tables only: the checkpoints of opd are not here"):
        explain(study.update_manifest(arms=arms), options=CHANGED)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"names": ["patchin"]}, "no analysis 'patchin'. Did you mean 'patching'"),
        ({"arms": ["odp"]}, "no arm 'odp'. Did you mean 'opd'"),
        ({"seeds": [4]}, "no seed '4'"),
        ({"options": Options(groups=("harm",))}, "no group of answers 'harm'. Did you mean 'harmed'"),
        (
            {"names": ["windows"], "options": Options(("changed",), windows=(1, 3))},
            "window of 3 layers does not fit",
        ),
        ({"options": Options(("changed",), sites=("resid_end",))}, "no site resid_end"),
    ],
)
def test_names_that_do_not_exist(study, words, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        explain(study, **words)


def test_chosen_arms_only(study):
    explain(study, ["patching"], arms=["opd"], options=CHANGED)
    assert set(study.table("patching")["arm"]) == {"opd"}


def test_knockout_and_lens_fill_their_tables_and_own_their_options(study):
    few = replace(CHANGED, spans=("context", "system"), readers=("all",))
    explain(study, ["knockout", "lens"], arms=["opd"], options=few)
    table, lens = study.table("knockout"), study.table("lens")
    assert set(table["group"]) == {"changed"}
    assert set(zip(table["layer"], table["width"], strict=True)) == {(0, 2)}
    assert set(table["span"]) == {"context", "system"}
    assert set(study.table("attention")["view"]) == {"no_context", "with_context"}
    assert set(lens["token"]) == {"without", "with", "all"}
    assert len(study.table("lens_examples"))
    assert len(study.table("knockout_examples"))
    # The lens has no spans, so it stands whatever they are; knockout does not.
    explain(Study.open(study.path), ["lens"], arms=["opd"], options=replace(few, spans=("context",)))
    with pytest.raises(UserError, match=r"table 'knockout' .* made with another spans.*--again"):
        explain(Study.open(study.path), ["knockout"], arms=["opd"], options=replace(few, spans=("context",)))


def test_memory_that_is_exhausted_leaves_what_is_done(study, monkeypatch):
    def full(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr("cr_interp.mechanism.attribution.gradients", full)
    with pytest.raises(UserError, match="--batch-size 32; the checkpoints that are done are kept"):
        explain(study, ["patching", "attribution"], ["opd"], options=CHANGED)
    done = Study.open(study.path)
    assert set(done.table("patching")["arm"]) == {"opd"}
    assert not done.has_table("attribution")


@pytest.mark.slow
def test_heads_and_windows_of_a_study(study):
    options = Options(("changed",), sites=("attn_out",), heads=2, windows=(1, 2))
    explain(study, ["windows", "attribution", "heads", "patching"], ["opd"], options=options)
    windows, patching, heads = (study.table(name) for name in ("patching_windows", "patching", "patching_heads"))
    assert set(zip(windows["layer"], windows["width"], strict=True)) == {(0, 1), (1, 1), (0, 2)}
    shared = ["group", "direction", "site", "layer", "control", "readout", "estimate"]
    one = windows.loc[windows["width"] == 1, shared].reset_index(drop=True)
    both = one.merge(patching[shared], on=shared[:-1])
    assert both["estimate_x"].to_numpy() == pytest.approx(both["estimate_y"].to_numpy(), abs=1e-4)
    assert len(heads[["layer", "head"]].drop_duplicates()) == 4
    printed = "\n".join(str(table.title) for table in tables_printed(study, ["windows", "attribution", "heads"]))
    assert "windows of layers that do most" in printed
    assert "heads that do most" in printed
    assert "attribution against patching" in printed
    with pytest.raises(UserError, match=r"with another windows.*--again"):
        explain(Study.open(study.path), ["windows"], ["opd"], options=Options(("changed",), sites=("attn_out",)))
