"""Find studies by name: on the search paths, in suites, among the bundled ones."""

import os
from pathlib import Path

from cr_interp.errors import unknown
from cr_interp.study.places import is_study
from cr_interp.study.study import Study

BUNDLED = Path(__file__).parent.parent / "examples"


def search_paths() -> list[Path]:
    """List where studies are looked for: ``$CR_INTERP_STUDIES``, ``./studies``, the bundled examples."""
    own = [Path(part) for part in os.environ.get("CR_INTERP_STUDIES", "").split(os.pathsep) if part]
    return [*own, Path("studies"), BUNDLED]


def studies_in(folder: Path) -> dict[str, Path]:
    """Name → folder of the studies directly inside ``folder``; none if it is a study itself."""
    if _is_study(folder):
        return {}
    return {each.name: each for each in _folders(folder) if _is_study(each)}


def _is_study(folder: Path) -> bool:
    """Tell whether a folder is a study. False as well for a folder that may not be looked into: others beside it are still
    found.
    """
    try:
        return is_study(folder)
    except OSError:
        return False


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except OSError:
        return []


def find_studies() -> dict[str, Path]:
    """Name → folder of every study on the search paths; the first of a name wins.

    A folder of studies is a suite, and its studies are called ``SUITE/SETTING``; of two suites with one name the
    second is hidden as a whole, so that no suite is mixed from two.

    >>> {"organism-shift", "suite/rules-llama"} <= set(find_studies())
    True
    """
    found: dict[str, Path] = {}
    for root in search_paths():
        taken = {name.partition("/")[0] for name in found}
        here = studies_in(root)
        for suite in _folders(root):
            here |= {f"{suite.name}/{name}": path for name, path in studies_in(suite).items()}
        found |= {name: path for name, path in here.items() if name.partition("/")[0] not in taken}
    return found


def open_study(name_or_path: str | Path) -> Study:
    """Open a study by its folder, or by its name on the search paths: one that :func:`find_studies` lists.

    >>> study = open_study("organism-shift")
    >>> study.manifest["task"], study.has_table("drift")
    ('rules:shift', True)
    """
    if Path(name_or_path).is_dir():
        return Study.open(name_or_path)
    studies = find_studies()
    if str(name_or_path) not in studies:
        raise unknown("study", str(name_or_path), studies)
    return Study.open(studies[str(name_or_path)])
