"""Notebooks run from top to bottom, import public names only, and keep outputs that belong to a bundled study.

After a bundled study has changed, run them again and save the outputs (the pictures need a Chromium):

    BROWSER_PATH=$(command -v chromium) PLOTLY_RENDERER=plotly_mimetype+png \\
        jupyter execute --inplace notebooks/*.ipynb
"""

import ast
import os
import re
import tempfile
from pathlib import Path

import pytest
from synthetic import make_study

from cr_interp.study.searching import BUNDLED

nbformat = pytest.importorskip("nbformat", reason="the extra `notebooks` is not installed")
nbclient = pytest.importorskip("nbclient", reason="the extra `notebooks` is not installed")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: What a notebook has to print of the study that it is about.
STUDY = {
    "01_layer_drift": "organism-shift",
    "02_compare_checkpoints": "codebook:A, small, large",
    "03_twelve_settings": "suite: 12 settings",
    "04_why_it_flips": "organism-shift: rules:shift",
}


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the bundled studies exist; if not, a synthetic one stands in."""
    bundled = (BUNDLED / "organism-shift" / "manifest.json").is_file()
    if not bundled:
        make_study(tmp_path / "organism-shift", examples=30)
    monkeypatch.setenv("CR_INTERP_STUDIES", "" if bundled else str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    return bundled


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, studies, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:  # a comparison of fewer examples runs through the same lines
        cell.source = re.sub(r"^EXAMPLES = \d+$", "EXAMPLES = 16", cell.source, flags=re.MULTILINE)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
    assert STUDY[path.stem] in "".join(output.get("text", "") for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_imports_and_uses_public_names_only(path):
    source = "\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    )
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cr_interp"):
            assert not any(name.name.startswith("_") for name in node.names)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
    assert "import torch" not in source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_outputs_are_those_of_a_bundled_study(path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), (
        "run it again: see the docstring above"
    )
    text = "".join(output.get("text", "") for output in outputs)
    assert STUDY[path.stem] in text
    written = path.read_text(encoding="utf-8")
    for private in {f"/{part.parts[1]}/" for part in (Path.home(), ROOT, Path(tempfile.gettempdir()))} | {
        "/home/"
    }:
        assert private not in written, "a path of the machine that ran it"
    assert not re.search(r"""["'\s(](?:/[\w.-]+){2,}/[\w-]+\.py\b""", written), (
        "a traceback's or a warning's path"
    )
