"""Clusters: which examples belong together, as tasks say it and as it is read from older tables."""

import pandas as pd
import pytest

from cr_interp.study.searching import BUNDLED
from cr_interp.study.study import Study
from cr_interp.tasks import get_task
from cr_interp.tasks.base import Example
from cr_interp.tasks.clusters import clusters_of


def images(rows: tuple[str, ...]) -> set[tuple[str, ...]]:
    """All mirror images and quarter turns, by turning and mirroring until nothing new comes."""
    seen, new = set(), {rows}
    while new:
        seen |= new
        turned = {tuple("".join(column)[::-1] for column in zip(*each, strict=True)) for each in new}
        new = (turned | {each[::-1] for each in new}) - seen
    return seen


def test_an_example_is_a_cluster_of_its_own_if_nothing_is_said():
    assert Example("a", "p", "r").cluster == "a"
    assert Example("a", "p", "r", cluster="c").cluster == "c"


def test_frames_of_one_phrase_are_a_cluster():
    examples = get_task("sentiment").examples("test")
    by_cluster = pd.Series([example.cluster for example in examples]).value_counts()
    assert len(by_cluster) == 56
    assert set(by_cluster) == {8}


@pytest.mark.parametrize("name", ["frozenlake:A", "sokoban:B"])
def test_boards_are_one_cluster_exactly_if_one_is_the_other_s_image(name):
    examples = get_task(name).examples("test", 60)
    boards = [tuple(example.id.partition(":")[2].split("/")) for example in examples]
    for one, board in zip(examples, boards, strict=True):
        alike = images(board)
        for other, candidate in zip(examples, boards, strict=True):
            assert (one.cluster == other.cluster) == (candidate in alike)


@pytest.mark.parametrize(
    "name", ["sentiment", "frozenlake:A", "sokoban:B", "rules:shift", "codebook:C", "wordclass"]
)
def test_clusters_are_read_from_ids_as_the_task_says_them(name):
    examples = get_task(name).examples("test")
    assert clusters_of(name, [example.id for example in examples]) == [example.cluster for example in examples]


def test_ids_of_other_tasks_are_left_alone():
    for task in ("my-task", "None", "textarena:frozenlake", "rules:shift"):
        assert clusters_of(task, ["sentiment-test-a-1-2", "test:AB/CD", "7"]) == [
            "sentiment-test-a-1-2",
            "test:AB/CD",
            "7",
        ]
    assert clusters_of("frozenlake:A", ["test:17"]) == ["test:17"]


@pytest.mark.parametrize(
    ("study", "examples", "clusters"),
    [
        ("smollm2-sentiment", 200, 56),
        ("suite/frozenlake-self", 168, 22),
        ("suite/sokoban-cross", 256, 102),
        ("organism-shift", 256, 256),
    ],
)
def test_a_study_that_is_older_than_clusters_has_them(study, examples, clusters):
    table = Study.open(BUNDLED / study).table("generations")
    assert (table["example_id"].nunique(), table["cluster"].nunique()) == (examples, clusters)
    assert (table.groupby("example_id")["cluster"].nunique() == 1).all()
