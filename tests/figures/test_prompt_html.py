"""One prompt with all arms' answers: equal pairs once, a chip a seed, nothing from a file as HTML."""

import pandas as pd

from cr_interp.figures.prompt_html import prompt_html


def pair(arm: str, seed: int, x: str, xc: str, sample: int = 0, prompt: str = "ab", answer: str = "bc") -> dict:
    return {
        "arm": arm,
        "seed": seed,
        "sample": sample,
        "example_id": "e",
        "prompt": prompt,
        "answer": answer,
        "response_x": x,
        "response_xc": xc,
        "outcome_x": "right",
        "outcome_xc": "wrong" if x != xc else "right",
        "n_tokens_x": 2,
        "n_tokens_xc": 3,
    }


def test_seeds_that_answer_alike_stand_once():
    html = prompt_html(
        pd.DataFrame([pair("opd", 0, "bc", "bd"), pair("opd", 1, "bc", "bd"), pair("opd", 2, "bc", "bc")])
    )
    assert html.count("<tr>") == 3  # the head, and two ways to answer
    assert "<i>seed 0</i><i>seed 1</i>" in html
    assert "rowspan='2'" in html
    assert html.count("<mark>") == 2


def test_arms_stand_in_their_order_and_samples_are_told_apart():
    rows = [pair("nca", 0, "x", "x"), pair("base", 0, "x", "y", 0), pair("base", 0, "x", "y", 1)]
    html = prompt_html(pd.DataFrame(rows))
    assert html.index(">base<") < html.index(">nca<")
    assert "<i>seed 0.0</i><i>seed 0.1</i>" in html


def test_everything_is_escaped():
    bad = "<script>x</script>"
    html = prompt_html(pd.DataFrame([pair(bad, 0, bad, bad + "!", prompt=bad, answer=bad)]))
    assert "<script>" not in html
