"""Example-level CKA of weighted examples against its definition over distinct examples."""

import itertools
import math

import pytest
import torch

from cr_interp.similarity.weighted import weighted_example_cka

G, T, WIDTH = 6, 2, 3


def rows(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    effect = torch.randn(G, 1, WIDTH, dtype=torch.float64, generator=generator)
    return (effect + torch.randn(G, T, WIDTH, dtype=torch.float64, generator=generator)).reshape(-1, WIDTH)


def by_definition(k: torch.Tensor, l_: torch.Tensor, copies: list[int]) -> float:
    """Mean over tokens of all tuples of examples at distinct places of ``copies`` that are distinct examples."""

    def mean(order: int, value) -> float:
        total, count = 0.0, 0
        for places in itertools.permutations(range(len(copies)), order):
            chosen = [copies[place] for place in places]
            if len(set(chosen)) < order:
                continue
            for tokens in itertools.product(range(T), repeat=order):
                total += value(*(g * T + t for g, t in zip(chosen, tokens, strict=True)))
                count += 1
        return float(total) / count

    return (
        mean(2, lambda i, j: k[i, j] * l_[i, j])
        - 2 * mean(3, lambda i, j, q: k[i, j] * l_[i, q])
        + mean(4, lambda i, j, q, r: k[i, j] * l_[q, r])
    )


@pytest.mark.parametrize("copies", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 5]])
def test_equals_the_definition_by_distinct_examples(copies):
    x, y = rows(0), rows(1) + 0.5 * rows(0)
    k, l_ = x @ x.T, y @ y.T
    weights = torch.bincount(torch.tensor(copies), minlength=G).double()[None]
    kl, kk, ll = by_definition(k, l_, copies), by_definition(k, k, copies), by_definition(l_, l_, copies)
    found = weighted_example_cka(k, l_, weights, T).item()
    assert found == pytest.approx(kl / math.sqrt(kk * ll), abs=1e-10)
    moved = (y + 3.0) @ (y + 3.0).T
    assert weighted_example_cka(k, moved, torch.ones(1, G).double(), T).item() == pytest.approx(
        weighted_example_cka(k, l_, torch.ones(1, G).double(), T).item(), abs=1e-10
    )


def test_unrelated_examples_scatter_around_zero_though_their_tokens_are_alike():
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        x, y = (
            (torch.randn(12, 1, 8, generator=generator) + 0.1 * torch.randn(12, 3, 8, generator=generator))
            .double()
            .reshape(-1, 8)
            for _ in range(2)
        )
        x, y = x - x.mean(0), y - y.mean(0)
        found.append(weighted_example_cka(x @ x.T, y @ y.T, torch.ones(1, 12).double(), 3))
    values = torch.cat(found)
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))


def test_fewer_than_four_distinct_examples_are_undefined():
    x = rows(0)
    weights = torch.tensor([[3.0, 2.0, 1.0, 0, 0, 0]]).double()
    assert weighted_example_cka(x @ x.T, x @ x.T, weights, T).isnan().all()


UNITS = [0, 1, 1, 2, 3, 4, 4, 0]


def between_clusters(k: torch.Tensor, l_: torch.Tensor, units: list[int], counts: list[int]) -> float:
    """Mean over all tuples of rows whose clusters are distinct, a row counting as often as its cluster is drawn."""
    of = torch.tensor(units).repeat_interleave(T)
    apart = (of[:, None] != of).double()
    w = torch.tensor(counts)[of].double()
    pairs = torch.einsum("ij,i,j->ij", apart, w, w)
    triples = torch.einsum("ij,iq,jq,i,j,q->ijq", apart, apart, apart, w, w, w)
    fours = torch.einsum("ij,iq,ir,jq,jr,qr,i,j,q,r->ijqr", *[apart] * 6, w, w, w, w)
    return float(
        (pairs * k * l_).sum() / pairs.sum()
        - 2 * torch.einsum("ijq,ij,iq->", triples, k, l_) / triples.sum()
        + torch.einsum("ijqr,ij,qr->", fours, k, l_) / fours.sum()
    )


@pytest.mark.parametrize("counts", [[1, 1, 1, 1, 1], [2, 1, 0, 1, 3]])
def test_with_clusters_only_examples_of_distinct_ones_meet(counts):
    """Of unequal sizes and not in order; weighted as a bootstrap that draws whole clusters weighs them."""
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(5, 1, WIDTH, dtype=torch.float64, generator=generator)[UNITS]
    noise = torch.randn(2, len(UNITS), T, WIDTH, dtype=torch.float64, generator=generator)
    x, y = ((shared + each).reshape(-1, WIDTH) for each in noise)
    k, l_ = x @ x.T, y @ y.T
    kl, kk, ll = (between_clusters(a, b, UNITS, counts) for a, b in ((k, l_), (k, k), (l_, l_)))
    units = torch.tensor(UNITS)
    weights = torch.tensor(counts)[units].double()[None]
    found = weighted_example_cka(k, l_, weights, T, units).item()
    assert found == pytest.approx(kl / math.sqrt(kk * ll), abs=1e-10)
    assert abs(found - weighted_example_cka(k, l_, weights, T).item()) > 0.01, (
        "another value than between examples"
    )


def test_clusters_of_one_example_change_nothing():
    x, y = rows(0), rows(1)
    k, l_, weights = x @ x.T, y @ y.T, torch.ones(1, G).double()
    shuffled = torch.tensor([3, 1, 5, 0, 2, 4])
    assert weighted_example_cka(k, l_, weights, T, shuffled).item() == pytest.approx(
        weighted_example_cka(k, l_, weights, T).item(), abs=1e-12
    )
