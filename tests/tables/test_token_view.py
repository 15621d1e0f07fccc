"""Movement, order and alignment of tokens, known by hand."""

import doctest

import numpy as np
import pandas as pd
import pytest
from token_rows import TWO, rows

from cr_interp.tables import token_view
from cr_interp.tables.token_view import OUTPUT, Reading

# -- numbers -------------------------------------------------------------------------------------------------


def test_places():
    assert list(token_view.place(TWO)) == [-1, -1, 0, 0, 1, 1, OUTPUT, OUTPUT]


def test_movement_is_zero_where_nothing_moves_and_never_below():
    assert token_view.moved(TWO, "cosine")[:6] == pytest.approx([0, 0, 0.1, 0.3, 0.5, 0])
    assert token_view.moved(TWO, "relative_l2")[2:4] == pytest.approx([0.2, 0.6])
    assert token_view.moved(TWO, "kl")[-2:] == pytest.approx([0.01, 2.0])
    assert np.isnan(token_view.moved(TWO, "kl")[0])


def test_rank_by_the_farthest_token_and_by_the_mean():
    spiky = rows(["a", "b", "c"], {0: [1.0, 0.4, 1.0]}, [0, 0, 0], "spiky")
    even = rows(["d", "e"], {0: [0.6, 0.6]}, [0, 0], "even")
    both = pd.concat([even, spiky])
    both = both[both["site"] == "resid_post"]
    by_max = token_view.rank(both, "cosine", "max")
    assert list(by_max["example_id"]) == ["spiky", "even"]
    assert list(by_max["drift"]) == pytest.approx([0.6, 0.4])
    assert list(by_max["tokens"]) == [3, 2]
    assert (by_max.loc[0, "position"], by_max.loc[0, "token"]) == (1, "b")
    by_mean = token_view.rank(both, "cosine", "mean")
    assert list(by_mean["example_id"]) == ["even", "spiky"]
    assert list(by_mean["drift"]) == pytest.approx([0.4, 0.2])


def test_rank_of_nothing_and_of_nothing_measured():
    assert token_view.rank(TWO.iloc[:0], "cosine").empty
    assert token_view.rank(TWO[TWO["site"] == "output"], "cosine").empty


def test_the_scale_ends_where_99_percent_lie():
    values = np.append(np.linspace(0, 1, 1001), [np.nan, 50.0])
    assert token_view.scale_end(values) == pytest.approx(0.99, abs=0.01)
    assert token_view.scale_end(np.array([np.nan])) == 1.0
    assert token_view.scale_end(np.zeros(5)) > 0


def test_shares_are_linear_but_logarithmic_for_the_output():
    assert list(token_view.share(np.array([0.0, 0.2, 9.0]), "cosine", 0.4)) == pytest.approx([0, 0.5, 1])
    kl = token_view.share(np.array([0.0, 1e-3, 1e-2, 0.1, 5.0, np.nan]), "kl", 0.1)
    assert list(kl[:5]) == pytest.approx([0, 0, 0.5, 1, 1])
    assert np.isnan(kl[5])
    assert list(token_view.scale_ticks("kl", 0.1).items()) == [(0.0, "≤ 0.001"), (0.5, "0.01"), (1.0, "0.1")]


def test_a_reading_holds_each_place_and_token():
    mine = Reading.of("opd", TWO.sample(frac=1, random_state=0), "cosine")
    assert mine.tokens == ["a", "b"]
    assert mine.places == [-1, 0, 1]
    assert mine.drift == pytest.approx(np.array([[0, 0], [0.1, 0.3], [0.5, 0]]))
    assert list(mine.at(1)) == pytest.approx([0.5, 0])
    assert np.isnan(mine.at(7)).all()
    assert token_view.farthest([mine]) == pytest.approx(0.5)


def test_the_output_is_a_reading_without_layers():
    mine = Reading.of("opd", TWO, "kl")
    assert mine.places == [OUTPUT]
    assert list(mine.at(1)) == list(mine.at(-1)) == pytest.approx([0.01, 2.0])


# -- alignment -----------------------------------------------------------------------------------------------


def test_equal_tokens_share_a_column_and_an_insertion_opens_one():
    assert token_view.align([list("abcd"), list("abXcd")]) == [[0, 1, None, 2, 3], [0, 1, 2, 3, 4]]
    assert token_view.align([list("abcde"), list("acde")]) == [[0, 1, 2, 3, 4], [0, None, 1, 2, 3]]


def test_three_lists_are_matched_with_what_stands_already():
    columns = token_view.align([list("abcd"), list("abcdX"), list("Yabcd")])
    assert columns == [[None, 0, 1, 2, 3, None], [None, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, None]]


def test_unrelated_texts_are_aligned_by_position():
    assert token_view.align([list("hfhpkjf"), list("egojie")]) == [list(range(7)), [0, 1, 2, 3, 4, 5, None]]


def test_every_token_stands_in_exactly_one_column():
    draw = np.random.default_rng(0)
    for _ in range(50):
        lists = [list(draw.choice(list("abc"), draw.integers(0, 9))) for _ in range(3)]
        columns = token_view.align(lists)
        assert len({len(each) for each in columns}) == 1
        for tokens, mine in zip(lists, columns, strict=True):
            assert [index for index in mine if index is not None] == list(range(len(tokens)))
        assert all(any(mine[k] is not None for mine in columns) for k in range(len(columns[0])))


def test_what_cannot_be_seen_gets_a_sign():
    assert token_view.visible("") == "∅"
    assert token_view.visible(" a\n\t") == "·a⏎⇥"
    assert token_view.visible("\u202eabc\x00") == "‹202E›abc‹0000›"


def test_examples_in_the_documentation():
    assert doctest.testmod(token_view).failed == 0
