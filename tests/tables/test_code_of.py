"""The digest of the code behind an answer: it changes with what computes the answer, and with nothing else."""

import ast
import io
import shutil
import tokenize

import pytest

from cr_interp.tables import code_of as module
from cr_interp.tables.code_of import MODULES, PACKAGES, code_of, reached, without_words

ROOT = module.ROOT


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The package's text elsewhere, and the digest of an answer's code there, read anew each time."""
    for package in (*PACKAGES, "study"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODULES:
        if "." not in name:
            shutil.copy(ROOT / f"{name}.py", tmp_path)

    def digest(what: str = "metric_table") -> str:
        with monkeypatch.context() as patch:
            patch.setattr(module, "ROOT", tmp_path)
            for cached in (code_of, module._text):
                cached.cache_clear()
            found = code_of(what)
        for cached in (code_of, module._text):
            cached.cache_clear()
        return found

    def edit(path: str, old: str, new: str) -> None:
        file = tmp_path / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return digest, edit


def test_a_new_formula_is_another_code(copy):
    digest, edit = copy
    before = digest()
    edit(
        "tables/behaviour.py",
        '"acc_x": (x, graded, graded),',
        '"acc_x": (x, graded, graded), "wrong": (x, x, x),',
    )
    assert digest() != before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("vocabulary.py", '"acc_x": Metric(', '"wrong": Metric("Wrong", "wrong (%)"),\n    "acc_x": Metric('),
        ("statistics.py", "MARGIN = 0.02", "MARGIN = 0.03"),
        ("study/rows.py", "fillna(-1)", "fillna(0)"),
        ("tasks/clusters.py", "import re", "import re as regular"),
    ],
)
def test_whatever_a_number_depends_on_counts(copy, path, old, new):
    digest, edit = copy
    before = digest()
    edit(path, old, new)
    assert digest() != before


def test_words_and_what_other_answers_are_made_by_do_not_count(copy):
    digest, edit = copy
    before = digest()
    edit("tables/behaviour.py", '    """Compute the six metrics', '    """Work out the six metrics')
    edit("tables/behaviour.py", '# "Every arm solves it" is asked', "# Whether every arm solves it is asked")
    edit("tables/probes.py", "def probe_table(", "def table_of_probes(")
    edit("tables/patching.py", "def strongest(", "def most(")
    edit("study/study.py", "class Study", "class  Study")
    assert digest() == before


def test_of_an_unknown_name_all_counts(copy):
    digest, edit = copy
    before = digest("of somebody else")
    edit("tables/probes.py", "def probe_table(", "def table_of_probes(")
    assert digest("of somebody else") != before


def test_the_modules_of_the_metrics_are_followed():
    found = reached(["tables.metrics"])
    assert {
        "tables.metrics",
        "tables.behaviour",
        "tables.estimates",
        "tables.obedience",
        "tables.divergence",
    } <= set(found)
    assert {"statistics", "vocabulary", "study.rows", "study.reading", "tasks.clusters"} <= set(found)
    assert not {"tables.stored", "tables.probes", "study.analyses"} & set(found)


def test_only_words_are_left_out():
    for name in reached(module._every_table()):
        text = module._text(name)
        said = {
            node.lineno
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        }
        dropped = [text[: match.start()].count("\n") + 1 for match in module._DOCSTRING.finditer(text)]
        assert set(dropped) <= said, (
            f"{name}: a string that is no docstring begins and ends a line; give it a name of one line"
        )
        left = module._DOCSTRING.sub("", text)
        marked = [
            token.string
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT and token.line.strip().startswith("#")
        ]
        assert [match.group().strip() for match in module._COMMENT.finditer(left)] == marked, name
        assert "\n\n" not in without_words(text)
