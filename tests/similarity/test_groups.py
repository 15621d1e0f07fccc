"""How many tokens of each example are compared: one number for a study, which no single short response decides."""

import math

import pytest
import torch

from cr_interp.similarity import DriftAccumulator, group_cka, panel, tokens_each
from cr_interp.similarity.duplicates import marks
from cr_interp.similarity.samples import ExampleSample

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([[5] * 20], 5),
        ([[5] * 19 + [1]], 5),  # one answer of a single token does not decide
        ([[5] * 17 + [2] * 3], 2),  # more than a tenth are that short
        ([[5] * 20, [9] * 20, [3] * 20], 3),  # every checkpoint has to have them
        ([[400] * 256], 4),  # 1024 rows in all
        ([[7] * 5000], 1),
        ([[0, 0, 6, 6, 6]], 6),
        ([], 1024),
    ],
)
def test_the_number_of_tokens_of_a_study(lengths, expected):
    assert tokens_each(lengths) == expected


def states(lengths: list[int], seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    example = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    effect = torch.randn(len(lengths), 6, generator=generator)
    x = effect[example] + 0.5 * torch.randn(len(example), 6, generator=generator)
    return x, x + 0.5 * torch.randn(len(example), 6, generator=generator), example


def test_shorter_examples_are_dropped_and_counted():
    x, y, example = states([4] * 19 + [1] + [9] * 5)
    drift = DriftAccumulator(6, tokens=4, measures=("cka_examples",))
    drift.update(x, y, example)
    (row,) = drift.finish(20)
    assert (drift.n_dropped, drift.example_tokens) == (1, 4)
    assert (row["n_tokens"], row["n_examples"]) == (24 * 4, 24)
    kept = example != 19
    assert row["estimate"] == pytest.approx(group_cka(x[kept], y[kept], example[kept], 4).value, abs=1e-9)
    sample = ExampleSample(4)
    sample.offer([x, y], example)
    assert (sample.dropped, sample.examples, len(sample.stacked()[0])) == (1, 24, 24 * 4)
    free = DriftAccumulator(6, measures=("cka_examples",))  # by the same rule, from what it has seen
    free.update(x, y, example)
    assert free.finish(20)[0]["estimate"] == pytest.approx(row["estimate"], abs=1e-12)


def test_long_responses_have_an_example_level_value_too():
    x, y, example = states([300] * 20)
    drift = DriftAccumulator(6, tokens=8, measures=("cka", "cka_examples"))
    drift.update(x, y, example)
    whole, level = drift.finish(20)
    assert math.isnan(whole["low"]), "3 whole responses fit"
    assert level["low"] < level["estimate"] < level["high"]
    assert level["n_tokens"] == 160


def test_too_few_examples_are_said():
    x, y, example = states([4, 4, 4, 2, 2, 2])
    drift = DriftAccumulator(6, tokens=4, measures=("cka_examples",))
    drift.update(x, y, example)
    (row,) = drift.finish(20)
    assert math.isnan(row["estimate"])
    assert row["n_examples"] == 3
    assert row["reason"] == "3 examples of at least 4 tokens; example-level CKA needs at least 4 examples"


def test_rows_that_are_there_more_than_once_are_counted():
    x, y, example = states([3] * 10)
    x[7], y[7] = x[2], y[2]
    x[20], y[20] = x[2], y[2]
    x[12] = x[3]  # in one view only
    table = panel({0: x, 1: x.bfloat16()}, {0: y, 1: y.bfloat16()}, example, measures=("cosine",))
    given = table[table["control"] == "given"].set_index("layer")
    assert given["n_duplicates"].tolist() == [2, 2]
    zero = torch.zeros(2, 3)
    assert marks(zero, zero)[0] == marks(-zero, zero)[1]
    near = torch.ones(2, 3)
    near[1, 0] += 1e-7
    assert marks(near, near)[0] != marks(near, near)[1]
