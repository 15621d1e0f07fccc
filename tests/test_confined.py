"""Which file a name stands for: what is told without following a link is what following every link tells."""

import itertools

import pytest

from cr_interp.confined import leads_inside


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a file, links in and out of it, to itself, to nothing, and to a folder outside."""
    root = tmp_path_factory.mktemp("confined")
    (root / "in" / "deep").mkdir(parents=True)
    (root / "in-not").mkdir()
    for place in (root / "in" / "file", root / "in" / "deep" / "file", root / "in-not" / "file"):
        place.touch()
    for name, goal in {
        "to-file": "file",
        "to-deep": "deep",
        "out": "../in-not",
        "loop": "loop",
        "none": "nothing",
    }.items():
        (root / "in" / name).symlink_to(goal)
    (root / "in" / "deep" / "up").symlink_to("../..")
    (root / "door").symlink_to("in")
    return root


NAMES = (
    "",
    "file",
    "deep",
    "to-file",
    "to-deep",
    "out",
    "loop",
    "none",
    "up",
    "..",
    ".",
    "missing",
    "a" * 300,
    "nul\0",
)


@pytest.mark.parametrize("start", ["in", "door", "in/deep/..", "missing"])
def test_what_leads_inside_is_what_following_every_link_says(folder, start):
    top = folder / start
    for first, second in itertools.product(NAMES, NAMES):
        path = top / first / second
        try:
            wanted = path.resolve().is_relative_to(top.resolve())
        except (OSError, RuntimeError, ValueError):
            wanted = False
        assert leads_inside(top, path) == wanted, path


def test_a_folder_whose_name_begins_alike_is_another_one(folder):
    assert leads_inside(folder / "in", folder / "in" / "deep" / "file")
    assert not leads_inside(folder / "in", folder / "in-not" / "file")
    assert not leads_inside(folder / "in", folder / "in" / "out" / "file")
