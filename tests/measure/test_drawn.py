"""What was shown before is left out, with all that is not independent of it."""

import hashlib

import pytest

from cr_interp.errors import UserError
from cr_interp.measure.drawn import digest_of_items, drawn
from cr_interp.measure.settings import Evaluation
from cr_interp.tasks import get_task


def ids(examples):
    return {each.id for each in examples}


@pytest.mark.parametrize(
    ("name", "n"), [("rules:shift", 64), ("codebook:A", 64), ("sokoban:A", 40), ("sentiment", 24)]
)
def test_fresh_items_share_no_cluster_with_those_seen(name, n):
    task = get_task(name)
    seen = task.examples("test", 16, 0)
    found = drawn(task, Evaluation(examples=n, seed=2, leave_out={"seed": 0, "examples": 16}))
    assert len(ids(found)) == n
    assert not {each.cluster for each in found} & {each.cluster for each in seen}
    # It is the draw of its seed, in its order, without them.
    order = [each.id for each in task.examples("test", n, 2)]
    kept = [each.id for each in found if each.id in order]
    assert kept == [each for each in order if each in kept]


def test_without_anything_to_leave_out_it_is_the_task_s_own_draw():
    task = get_task("rules:shift")
    assert drawn(task, Evaluation(examples=9, seed=5)) == task.examples("test", 9, 5)


def test_too_few_that_were_not_seen_are_counted():
    task = get_task("frozenlake:A")
    boards = task.examples("test", None)
    with pytest.raises(UserError, match=r"has 0 examples beside those of draw 0, and 8 were asked for"):
        drawn(task, Evaluation(examples=8, seed=2, leave_out={"seed": 0, "examples": 10 * len(boards)}))


def test_the_digest_is_of_the_ids_in_their_order():
    items = get_task("rules:shift").examples("test", 3, 0)
    expected = hashlib.sha256("\n".join(each.id for each in items).encode()).hexdigest()
    assert digest_of_items(items) == expected != digest_of_items(items[::-1])
