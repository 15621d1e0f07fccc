"""Imports run downwards only: the house's floors, from the one that nobody imports to the one that imports nobody."""

import ast
from pathlib import Path

import pytest

from cr_interp.system.former import MOVED

ROOT = Path(__file__).resolve().parents[1]
#: From the top. What stands on one floor may not import each other, but for what is inside one package.
FLOORS = (
    {"app"},
    {"training.commands"},
    {"training.studies", "training.organisms"},
    {"training.gpu"},
    {"training.planning"},
    {"training.integrations"},
    {"training.run"},
    {"training.task_of", "training.objectives"},
    {"training", "training.settings"},
    {"cr_interp.cli", "cr_interp.__main__"},
    {"cr_interp.commands"},
    {"cr_interp.report", "cr_interp.system.workbench"},
    {"cr_interp.figures"},
    {"cr_interp.mechanism"},
    {"cr_interp.measure"},
    {"cr_interp.tables"},
    {"cr_interp.capture"},
    {"cr_interp.similarity"},
    {"cr_interp.study"},
    {"cr_interp.models"},
    {"cr_interp.tasks"},
    {"cr_interp.views"},
    {"cr_interp"},  # errors, statistics, configuration, files, vocabulary, …: the ground
)


def floor(module: str) -> int:
    """The floor of the longest name that the module lies in."""
    known = [
        (len(name), index)
        for index, names in enumerate(FLOORS)
        for name in names
        if f"{module}.".startswith(f"{name}.")
    ]
    return max(known)[1]


def modules() -> list[tuple[str, Path]]:
    found = []
    for top in ("cr_interp", "training", "app"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


def imports(path: Path) -> list[str]:
    """Everything of the project that a file imports, inside functions as well; ``__getattr__`` only answers for old names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") != "__getattr__"]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] in ("cr_interp", "training", "app")]


NAMES = {name for name, _ in modules()}


def module_of(imported: str) -> str:
    return imported if imported in NAMES else imported.rpartition(".")[0]


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_nothing_goes_back_up(name, path):
    if name == "cr_interp":  # whose first lines name what is public
        return
    here = floor(name)
    up = sorted({module_of(each) for each in imports(path) if floor(module_of(each)) < here})
    assert not up, f"{name} imports {', '.join(up)}, which is above it"


def test_the_ground_imports_no_package_of_the_house():
    for name, path in modules():
        if floor(name) == len(FLOORS) - 1 and name.count(".") == 1:
            assert all(floor(module_of(each)) == len(FLOORS) - 1 for each in imports(path)), name


def test_the_project_uses_no_former_address():
    used = {f"{name}: {each}" for name, path in modules() for each in imports(path) if module_of(each) in MOVED}
    assert not used
