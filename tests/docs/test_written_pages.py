"""The documentation says what the data say: its numbers, its sentences, its links and its commands."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TEMPLATES = DOCS / "tools" / "templates"
README = ROOT / "README.md"
EXAMPLES = ROOT / "cr_interp" / "examples"


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS / "tools"))  # all the while: it imports its neighbours when it needs them
    try:
        yield importlib.import_module("generate")
    finally:
        sys.path.remove(str(DOCS / "tools"))


def written_pages() -> list[Path]:
    return sorted(page for page in DOCS.rglob("*.md") if TEMPLATES not in page.parents)


# -- numbers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_page_with_results_is_what_the_bundled_studies_say(generate):
    stale = [str(path.relative_to(ROOT)) for path in generate.stale()]
    assert not stale, f"Out of date: {stale}. Run: make results"


def test_rows_that_a_loop_sets_apart_are_one_table_and_two_tables_stay_two(generate):
    rows = "| a | b |\n|---|---:|\n\n| 1 | 2 |\n\n| 3 | 4 |"
    other = "| c |\n| :---: |\n| 5 |"
    told = generate._tidy(f"{rows}\n\n{other}\n")
    assert told == "| a | b |\n|---|---:|\n| 1 | 2 |\n| 3 | 4 |\n\n| c |\n| :---: |\n| 5 |\n"


def answers(study: str, arm: str) -> pd.DataFrame:
    """The test answers of an arm at its last step, read without any of the project's code."""
    rows = pd.read_parquet(EXAMPLES / study / "tables" / "generations.parquet")
    rows = rows[(rows["arm"] == arm) & (rows["split"] == "test")]
    return rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]


def counted(study: str, arm: str) -> dict[str, float]:
    rows = answers(study, arm)
    rows = rows[rows["control"].isin(["none", "exact"])].assign(right=rows["outcome"] == "right")
    wide = rows.pivot(index=["seed", "example_id", "sample"], columns="view", values="right").astype(bool)
    x, c = wide["no_context"], wide["with_context"]
    told = answers(study, arm).query("control == 'mismatched' and view == 'with_context'")["obeys_new"].dropna()
    return {
        "acc_x": x.mean(),
        "acc_xc": c.mean(),
        "new_instruction": told.astype(float).mean(),
        "harm": ((x & ~c).groupby("seed").sum() / x.groupby("seed").sum()).mean(),
    }


@pytest.mark.parametrize("study", ["organism-shift", "organism-swap", "smollm2-sentiment", "smollm2-wordclass"])
def test_the_readme_s_table_can_be_counted_from_the_answers(study):
    rows = [
        line
        for line in README.read_text("utf-8").splitlines()
        if re.match(r"\|[^|]+\| (plain|anchored) \|", line)
    ]
    assert len(rows) == 10
    first = ["organism-shift", "organism-swap", "smollm2-sentiment", "smollm2-wordclass"].index(study) * 2
    for line, arm in zip(rows[first : first + 2], ("opd", "nca"), strict=True):
        shown = [
            float(each.replace("\u00a0", " ").removesuffix(" %")) for each in line.strip("| ").split(" | ")[2:]
        ]
        expected = counted(study, arm)
        keys = ("acc_x", "acc_xc", "harm", "new_instruction")
        assert shown == pytest.approx([100 * expected[key] for key in keys], abs=0.051), (study, arm)


def test_the_third_study_s_lengths_and_markers_can_be_counted_from_the_answers():
    """Tokens and markers a response, each seed apart: counted here without any of the project's code."""
    study = "smollm2-explained"
    rows = pd.concat([answers(study, arm) for arm in ("opd", "nca")])
    rows = rows[rows["control"].isin(["none", "exact"])]
    rows = rows.assign(marks=rows["response"].str.count(r"\bthat is (?:a )?(?:praise|complaint|compliment)\b"))
    assert rows["example_id"].nunique() == rows["cluster"].nunique() == 56
    text = (DOCS / "results" / "smollm2.md").read_text("utf-8")
    for (arm, seed), of_run in rows.groupby(["arm", "seed"]):
        line = re.search(rf"^\| `{arm}` {seed} \|(.*)\|$", text, re.MULTILINE)
        assert line, (arm, seed)
        shown = [re.match(r"\s*([\d.–]+)", cell) for cell in line[1].split("|")]
        sums = of_run.groupby("view")[["n_tokens", "marks"]].sum()
        length = sums.loc["with_context", "n_tokens"] / sums.loc["no_context", "n_tokens"]
        assert float(shown[3][1]) == pytest.approx(length, abs=0.0006)
        if sums.loc["no_context", "marks"]:
            times = sums.loc["with_context", "marks"] / sums.loc["no_context", "marks"]
            assert float(shown[4][1]) == pytest.approx(times, abs=0.0006)


def test_the_suite_s_flips_can_be_counted_from_the_answers():
    text = (DOCS / "results" / "suite.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\d+ of \d+ \| \d+ of \d+) \|", text, re.MULTILINE))
    assert len(rows) == 12
    for setting, shown in rows.items():
        expected = []
        for arm in ("opd", "nca"):
            found = answers(f"suite/{setting}", arm)
            found = found[found["control"].isin(["none", "exact"])].assign(right=found["outcome"] == "right")
            wide = found.pivot(index=["seed", "example_id", "sample"], columns="view", values="right").astype(
                bool
            )
            harmed = int((wide["no_context"] & ~wide["with_context"]).sum())
            expected.append(f"{harmed} of {int(wide['no_context'].sum())}")
        assert shown == " | ".join(expected), setting


def test_times_as_far_is_a_ratio_of_distances():
    """Relative L2 at each arm's worst layer over that of its floor, in the study where 1 − cosine says 3.5, 11.8 and 15.4."""
    drift = pd.read_parquet(EXAMPLES / "smollm2-sentiment" / "tables" / "drift.parquet")
    drift = drift[(drift["measure"] == "relative_l2") & (drift["site"] == "resid_post")]
    drift = drift[drift["step"] == drift.groupby(["arm", "seed"])["step"].transform("max")]
    mean = drift.groupby(["arm", "control", "layer"])["estimate"].mean()
    worst = {arm: (mean[arm, "exact"] / mean[arm, "floor"]).max() for arm in ("base", "opd", "nca")}
    text = " ".join((DOCS / "results" / "smollm2.md").read_text("utf-8").split())
    shown = re.search(
        r"a state \*\*([\d.]+) \(base\), ([\d.]+) \(opd\) and ([\d.]+) \(nca\) times as far\*\*", text
    )
    assert shown
    assert [float(each) for each in shown.groups()] == pytest.approx(list(worst.values()), abs=0.051)


#: A number that looks measured: a decimal, a percentage, a count of a count, a multiple.
MEASURED = re.compile(r"\d+\.\d+|\d+ %|\d+ of \d+|\d+ points|\d ×")
#: Typed all the same: what is no result of a bundled study, and says so where it stands.
TYPED = (
    "not bundled", "paper", "95 %", "[0.0, 0.0]", "1.2 % would not", "β 0.1", "cosine 0.9", "have 0.85", "0.9 as well",
    "0.9 is real", "lr=", "6 of 12", "0 of 256", "0 of 768", "5 of 12", '"0.9"', "400 tokens",
)  # fmt: skip


def test_no_result_is_typed_into_a_template():
    """Literal text of the templates, without what stands between braces, has no measured number but the listed ones."""
    found = {}
    for template in TEMPLATES.rglob("*.md"):
        text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template.read_text("utf-8"), flags=re.DOTALL)
        for paragraph in re.split(r"\n\s*\n", text):
            if MEASURED.search(paragraph) and not any(word in paragraph for word in TYPED):
                found[template.name] = paragraph
    assert not found


def test_a_sentence_that_is_no_longer_true_is_not_written(generate):
    from cr_interp.errors import UserError

    assert generate.claim(True, lambda: "Two\nand two.") == "Two\nand two."
    with pytest.raises(UserError, match=r"no longer say: “Two and two are five\."):
        generate.claim(np.bool_(False), lambda: "Two and two\n are five.")


# -- words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", written_pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_times_as_far_is_never_said_of_a_cosine(page):
    """A sentence that says "times as far" names a distance, or explains why not."""
    text = " ".join(page.read_text("utf-8").split())
    for sentence in re.split(r"(?<=[.!?:])\s+", text):
        if "times as far" in sentence.lower():
            assert re.search(r"L2|distance|√|[\"“]times as far", sentence, re.IGNORECASE), sentence


# -- links and commands --------------------------------------------------------------------------------------


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text("utf-8")
    assert len(text.encode()) <= 9_000
    targets = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", text)
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith("http") and not (ROOT / target).is_file()] == []


def test_the_readme_s_tree_is_the_repository_s():
    tree = re.search(r"```text\n(cr_interp/ .*?)```", README.read_text("utf-8"), re.DOTALL)
    assert tree
    for line in tree[1].splitlines():
        inside = line.startswith("  ")
        for name in re.findall(
            r"(?:^|\s)([\w/]+/|\w+\.py)(?=\s)", line.split("  ", 1)[0] if not inside else line[:24]
        ):
            assert (ROOT / ("cr_interp" if inside else ".") / name).exists(), name


def test_every_page_is_in_the_navigation():
    """MkDocs warns of it too; here it is found without building the site."""
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    listed = re.findall(r"[\w/-]+\.md", yaml.safe_dump(navigation))
    pages = {page.relative_to(DOCS).as_posix() for page in written_pages()}
    assert set(listed) >= pages
    assert set(listed) - pages <= {"reference/cli.md", "reference/configuration.md", "reference/tables.md"}


def test_every_target_of_make_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in [README, *written_pages()]:
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)\b", page.read_text("utf-8"), re.MULTILINE))
        assert named <= targets, page


#: ``::: module`` and the members of it that are shown.
SHOWN = re.compile(r"^::: ([\w.]+)\n(?: +options:\n +members: \[([^\]]*)\])?", re.MULTILINE)


def defined(module: str) -> set[str]:
    """Names that a module itself defines: what it only imports is documented where it is defined."""
    path = ROOT.joinpath(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    targets = [
        target
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in getattr(node, "targets", [getattr(node, "target", None)])
    ]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def test_what_the_reference_shows_is_defined_there():
    """A member that a module lacks is left out of the page without a word."""
    shown = SHOWN.findall((ROOT / "docs" / "reference" / "python.md").read_text("utf-8"))
    assert len(shown) > 15
    lacking = {
        module: gone
        for module, members in shown
        if (
            gone := [name for name in members.replace(" ", "").split(",") if name and name not in defined(module)]
        )
    }
    assert not lacking
