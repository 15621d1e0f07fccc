"""Probes against states in which it was written by hand what can be told."""

import numpy as np
import pytest
from tiny import tiny

from cr_interp.mechanism.given import Options
from cr_interp.mechanism.material import Material
from cr_interp.mechanism.probes import asked, rows
from cr_interp.tasks.base import Example
from cr_interp.views import Context

N, WIDTH = 48, 20
CLUSTERS = [f"c{i // 3}" for i in range(N)]


def states(**added):
    """Every prompt's own state, the same in all views, plus what each context adds along some directions."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(N, WIDTH))
    found = {}
    for view in ("none", "exact", "paraphrase", "mismatched", "irrelevant"):
        vector = np.zeros(WIDTH)
        for place, size in added.get(view, {}).items():
            vector[place] = size
        found[view] = own + 0.1 * rng.normal(size=(N, WIDTH)) + vector
    return found


def table(found):
    return {(question, tested, control): rest for question, tested, control, *rest in asked(found, CLUSTERS)}


THERE, MEANS = 0, 1


def test_presence_without_content():
    """Every context writes "there is one" and nothing else."""
    found = table(states(**{view: {THERE: 8.0} for view in ("exact", "paraphrase", "mismatched", "irrelevant")}))
    for tested in ("exact / none", "paraphrase / none", "irrelevant / none"):
        estimate, low, high, n = found["presence", tested, "none"]
        assert estimate == 1.0
        assert 0.7 < low < 1.0  # all told apart: Clopper and Pearson's with 16 clusters
        assert high == 1.0
        assert n == N
    estimate, low, high, _ = found["content", "paraphrase / irrelevant", "none"]
    assert low < 0.5 < high


def test_content_that_a_paraphrase_shares():
    there = {THERE: 8.0}
    found = table(
        states(
            exact={**there, MEANS: 8.0},
            paraphrase={**there, MEANS: 8.0},
            mismatched={**there, 2: 8.0},
            irrelevant={**there, 3: 8.0},
        )
    )
    assert found["content", "paraphrase / irrelevant", "none"][0] == 1.0
    estimate, low, high, _ = found["content", "paraphrase / irrelevant", "shuffled"]
    assert low < 0.5 < high
    assert estimate == pytest.approx(0.5, abs=0.2)


def test_content_that_only_the_fitted_wording_has():
    found = table(states(exact={MEANS: 8.0}, mismatched={2: 8.0}, paraphrase={4: 8.0}, irrelevant={5: 8.0}))
    assert found["content", "exact / mismatched", "none"][0] == 1.0
    assert found["content", "paraphrase / irrelevant", "none"][0] < 1.0


def test_nothing_to_tell_is_chance():
    found = table(states())
    for (_, _, control), (_estimate, low, high, _) in found.items():
        assert low < 0.5 < high or control == "shuffled"


def test_prompts_are_not_told_by_what_they_say():
    """A prompt that is in both views, and whose cluster is in the fitted part, would be known by heart."""
    rng = np.random.default_rng(1)
    cluster = rng.normal(size=(N // 3, WIDTH)).repeat(3, axis=0) * 10
    # Each cluster has its own sign of what the context adds: nothing of it is in other clusters.
    sign = rng.choice([-1.0, 1.0], size=N // 3).repeat(3)[:, None]
    found = table({"none": cluster, "exact": cluster + sign * np.eye(WIDTH)[0]})
    estimate, low, _, _ = found["presence", "exact / none", "none"]
    assert low < 0.6
    assert estimate < 0.9


def test_contexts_that_a_study_does_not_know_have_no_rows():
    found = table({name: each for name, each in states().items() if name in ("none", "exact", "paraphrase")})
    assert {(question, tested) for question, tested, _ in found} == {
        ("presence", "exact / none"),
        ("presence", "paraphrase / none"),
    }


def test_at_the_embedding_nothing_is_known_and_behind_the_first_block_it_is():
    loaded = tiny()
    words = ["abcd", "hgfe", "aaaa", "bbcd", "cdab", "gggh", "abab", "dcba", "hhhh", "fade", "bead", "cafe"]
    given = Material(
        loaded,
        base=lambda: loaded,
        teacher=lambda: loaded,
        no_context="empty_system",
        limit=3,
        options=Options(batch_size=8),
        contexts={"exact": Context(messages=({"role": "system", "content": "write the next letter"},))},
        prompts=[Example(f"e{i}", word, "") for i, word in enumerate(words)],
    )
    table = rows(given)["probes"]
    real = table[(table["control"] == "none")].set_index(["site", "layer"])["estimate"]
    assert real["resid_pre", 0] == pytest.approx(0.5, abs=1e-6)
    assert real["resid_post", 1] == 1.0
