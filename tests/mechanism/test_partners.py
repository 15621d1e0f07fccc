"""Another example's state as a control: of one with another answer if there is one, in small batches too."""

import dataclasses

from patched import loaded_of, planted, planted_pairs

from cr_interp.capture.sites import Site
from cr_interp.mechanism.batches import Views
from cr_interp.mechanism.estimates import estimates
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.partners import answered_otherwise, partners_of
from cr_interp.mechanism.patching import patch_pairs
from cr_interp.study.analyses import ANALYSES


def pairs(*told):
    """Cluster, group and answer of each."""
    return [Pair(f"e{i}", c, g, [2], [3], [a]) for i, (c, g, a) in enumerate(told)]


def test_another_answer_goes_before_the_same_group_and_never_the_same_cluster():
    some = pairs(("a", "harmed", 7), ("b", "harmed", 7), ("c", "kept", 8), ("a", "harmed", 8), ("d", "harmed", 8))
    # e0: e4 is harmed too and answers otherwise; e3 would be nearer but is of its cluster.
    assert partners_of(some) == [4, 3, 0, 1, 0]
    assert partners_of(some[:3]) == [2, 2, 0]  # harmed answers are all alike: a kept one is taken
    assert answered_otherwise(some, partners_of(some)) == [True] * 5


def test_where_all_answer_alike_the_same_group_is_taken_and_that_is_counted():
    some = pairs(("a", "harmed", 7), ("b", "kept", 7), ("c", "harmed", 7))
    assert partners_of(some) == [2, 2, 0]
    assert answered_otherwise(some, partners_of(some)) == [False] * 3
    assert partners_of(some[:1]) == [None]
    assert answered_otherwise(some[:1], [None]) == [False]


def test_of_longer_answers_one_that_parts_where_the_views_do_goes_before_one_that_is_only_worded_otherwise():
    """The label is the first token; a reason follows, which no two answers share."""
    lost = [Pair(f"h{i}", f"h{i}", "harmed", [2], [3], [7, i, 1], place=0, other=8) for i in range(3)]
    kept = [Pair(f"k{i}", f"k{i}", "kept", [2], [3], [label, i, 2]) for i, label in enumerate((7, 8))]
    some = [*lost, *kept]
    # All harmed answers begin alike, and so does one of the kept: the other kept one is the partner of each.
    assert partners_of(some)[:3] == [4, 4, 4]
    # The views of a kept answer do not part, so any other text will do, and the same group goes first.
    assert partners_of(some)[3:] == [4, 3]
    assert answered_otherwise(some, partners_of(some)) == [True] * 5
    # Without it another text is the best there is, and it is counted as what it is.
    assert partners_of(some[:4]) == [1, 2, 0, 0]
    assert answered_otherwise(some[:4], partners_of(some[:4])) == [False, False, False, True]


def test_every_batch_has_some_of_each_group():
    """Harmed answers that are all alike stand first; cut in one piece after the other a batch would hold nothing else."""
    some = planted_pairs()
    alike = [dataclasses.replace(p, group="harmed") for p in some[:3]]
    kept = [dataclasses.replace(p, group="kept") for p in some[3:]]
    views = Views(loaded_of(planted()), [*alike, *kept])
    found = list(views.batches(2))
    assert [[p.group for p in batch.pairs] for batch in found] == [["harmed", "kept"]] * 3
    assert sorted(n for batch in found for n in batch.numbers) == list(range(6))
    assert all(views.pairs[n] is p for batch in found for n, p in zip(batch.numbers, batch.pairs, strict=True))


def test_how_many_controls_have_another_answer_stands_beside_them():
    some = planted_pairs()
    alike = [*some[:2], *(dataclasses.replace(some[0], example_id=f"f{i}", cluster=f"f{i}") for i in range(2))]
    for chosen, expected in ((alike[:1] + alike[2:], 0), (alike, 4)):
        found = patch_pairs(loaded_of(planted()), chosen, [Site("attn_out", 1)])
        table = estimates(found).set_index(["direction", "readout", "control"])["n_other_answer"]
        assert table["repair", "answer", "other"] == table["break", "share", "other"] == expected
        assert table["repair", "answer", "none"] == table["repair", "answer", "random"] == 0


def test_rows_of_another_rule_are_another_measurement():
    """Whatever compares with another example says in what it is made of how that one was chosen."""
    named = {each.name for each in ANALYSES if each.rules.get("partners")}
    assert named == {"patching", "windows", "attribution", "heads", "lens"}
