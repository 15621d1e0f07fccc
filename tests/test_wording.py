"""A docstring says what a function does, verb first, and not what its result is called."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Words that open a noun phrase or a clause: "The rows of an arm", "Whether it is sharded", "Of every arm the layer …".
NO_VERB = re.compile(
    r"(What|Whether|How|Of|Where|That|Which|Who|When|Why|The|An?|All|Every|Each|One|Both|Is|Are|Does|Can|As|In|By|For|From|With|"
    r"Without|Rows|Columns|Examples|Ids|It|They|These|Those)\b"
)


def functions(package: str) -> Iterator[tuple[str, str]]:
    """Place and docstring of every function that has one."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef) or any(
                word in ast.unparse(one) for one in node.decorator_list for word in ("callback", "property")
            ):
                continue  # a callback of the command line: its docstring is the program's help. A property is no function
            if said := ast.get_docstring(node):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", said


@pytest.mark.parametrize("package", ["cr_interp", "training", "app", "docs/tools"])
def test_docstrings_open_with_a_verb(package):
    found = list(functions(package))
    assert len(found) > 10
    assert [where for where, said in found if NO_VERB.match(said)] == []


#: Words that open a clause, a question or an ellipsis: of a class or a property it is said what it is.
NO_NOUN = re.compile(
    r"(What|Whether|How|Of|Where|That|Which|Who|When|Why|Is|Are|Does|Can|As|In|By|For|From|With|Without|It|They|These|Those)\b"
)


def things(package: str) -> Iterator[tuple[str, str]]:
    """Place and docstring of every class and every property that has one."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                if not any("property" in ast.unparse(one) for one in node.decorator_list):
                    continue
            elif not isinstance(node, ast.ClassDef):
                continue
            if said := ast.get_docstring(node):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", said


@pytest.mark.parametrize("package", ["cr_interp", "training", "app", "docs/tools"])
def test_docstrings_of_classes_and_properties_say_what_they_are(package):
    found = list(things(package))
    assert found
    assert [where for where, said in found if NO_NOUN.match(said)] == []
    assert [where for where, said in found if said.split(". ")[0].rstrip().endswith("?")] == []


#: In double backticks, a file of this project; in a role, the address of a name.
FILE = re.compile(r"``([\w./]+\.py)``")
ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`~?((?:cr_interp|training|app)\.[\w.]+)`")


def is_there(name: str, file: Path) -> bool:
    """A path from the root or from a package, or one below a folder that the file lies in."""
    near = [ROOT, *(ROOT / package for package in ("cr_interp", "training", "app")), *file.parents]
    return any((folder / name).is_file() for folder in near) or any(file.parent.glob(f"*/{name}"))


def is_address(address: str) -> bool:
    parts = address.split(".")
    for known in range(len(parts), 0, -1):
        for module in (
            ROOT.joinpath(*parts[:known]).with_suffix(".py"),
            ROOT.joinpath(*parts[:known], "__init__.py"),
        ):
            if module.is_file():
                return (
                    known == len(parts)
                    or re.search(rf"\b{parts[known]}\b", module.read_text("utf-8")) is not None
                )
    return False


@pytest.mark.parametrize("package", ["cr_interp", "training", "app", "docs/tools"])
def test_what_docstrings_name_is_there(package):
    for file in sorted((ROOT / package).rglob("*.py")):
        text = file.read_text("utf-8")
        gone = [name for name in FILE.findall(text) if not is_there(name, file)]
        gone += [address for address in ROLE.findall(text) if not is_address(address)]
        assert not gone, file


def packages() -> list[Path]:
    return [
        each.parent
        for top in ("cr_interp", "training", "app")
        for each in sorted((ROOT / top).rglob("__init__.py"))
    ]


@pytest.mark.parametrize("package", packages(), ids=lambda each: str(each.relative_to(ROOT)))
def test_a_package_says_what_is_in_it(package):
    """Its first lines name every module and every package in it: whoever opens it finds the file to open next."""
    if package == ROOT / "cr_interp":  # whose first lines are its example; its map stands in the README
        return
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    inside = [each.stem for each in package.glob("*.py") if not each.stem.startswith("__")]
    inside += [each.parent.name for each in package.glob("*/__init__.py")]
    assert [name for name in sorted(inside) if not re.search(rf"\b{name}\b", said)] == []
