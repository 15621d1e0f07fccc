"""Knockout against plain runs, on a model whose reading head was written by hand, and the attention mass beside it."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from knocked import answered, loaded_of, planted, planted_pairs
from tiny import tiny, tiny_model

from cr_interp.capture import Cut, capture
from cr_interp.errors import UserError
from cr_interp.mechanism import knockout
from cr_interp.mechanism.attending import PARTS
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.knockout import attention, bounded, knock_out, positions
from cr_interp.mechanism.runs import FINAL
from cr_interp.mechanism.spans import context_span, labels_of
from cr_interp.models.forward import build_view, logits
from cr_interp.views import Context, render

PLACE = ["span", "readers", "layer", "width", "control"]


def test_finds_the_planted_reader_and_only_it():
    found = knock_out(loaded_of(planted(layer=1)), planted_pairs(), controls=("none",))
    assert set(found["span"]) == {"context", "system", "turns", "template"}
    for (span, readers, layer, width, _), rows in found.groupby(PLACE):
        share = (rows["patched"] - rows["received"]) / (rows["given"] - rows["received"])
        repairs = span in ("context", "system") and (layer == 1 or width == 3)
        np.testing.assert_allclose(share, float(repairs), atol=0.05, err_msg=f"{span} {readers} {layer}+{width}")
        assert (rows["answer"] == repairs).all()
        assert not rows["before"].any()
    assert set(found.loc[found["span"] == "context", "cut"]) == {2}


def test_as_many_tokens_elsewhere_repair_nothing():
    found = knock_out(loaded_of(planted()), planted_pairs(), spans=("system",), controls=("elsewhere",))
    assert len(found) == 6 * 2 * 4
    assert set(found["cut"]) == {1}
    assert not found["answer"].any()


def test_a_control_never_cuts_the_context_it_stands_beside():
    """The id 9 alone repairs everything: a control that fell on it would too."""
    pairs = [
        Pair(
            f"e{i}",
            f"c{i}",
            "harmed",
            [2, 6, 7, 3, i],
            [2, 9, 4, 6, 7, 3, i],
            [i],
            0,
            5,
            {
                "with_context": ("template", "system", "system", "turns", "prompt", "prompt", "prompt"),
            },
        )
        for i in (10, 11)
    ]
    found = knock_out(
        loaded_of(planted()),
        pairs,
        spans=("turns", "system"),
        cuts=(1, 2, 3),
        cuts_all=(2,),
        controls=("elsewhere",),
    )
    assert not found["answer"].any()
    assert set(found.loc[found["span"] == "turns", "cut"]) == {1}
    assert set(found.loc[found["span"] == "system", "cut"]) == {2}


def test_the_planted_head_alone_attends_to_the_context():
    table = attention(loaded_of(planted(layer=1)), planted_pairs())
    at = table[(table["view"] == "with_context") & (table["control"] == "none")].set_index(
        ["layer", "head", "span"]
    )["estimate"]
    assert at[1, 1, "system"] > 0.9
    assert at[1, 0, "system"] == pytest.approx(1 / 5)
    assert at[0, 1, "system"] == pytest.approx(1 / 5)
    even = table[(table["view"] == "with_context") & (table["control"] == "even")].set_index(["layer", "span"])[
        "estimate"
    ]
    assert even[2, "system"] == pytest.approx(1 / 5)
    assert even[2, "context"] == pytest.approx(2 / 5)
    whole = (
        table[(table["control"] == "none") & (table["span"] != "context")]
        .groupby(["view", "layer", "head"])["estimate"]
        .sum()
    )
    np.testing.assert_allclose(whole, 1, rtol=1e-5)
    assert "system" not in set(table.loc[table["view"] == "no_context", "span"])


def test_everything_cut_off_is_the_view_without_context_where_nothing_stands_before_it():
    """RoPE sees distances, which a context in front of all leaves as they are; GPT-2's positions are counted from the start."""
    for family, equal in (("llama", True), ("gpt2", False)):
        model = tiny_model(family)
        pairs = [
            Pair(f"e{i}", f"c{i}", "kept", [i, 3, 8], [40, 41, 42, i, 3, 8], [20, 21], 1, 7) for i in (10, 11, 12)
        ]
        answers = [answered(model, pair) for pair in pairs]
        found = knock_out(
            loaded_of(model), answers, spans=("context",), readers=("all",), cuts_all=(0,), controls=("none",)
        )
        assert np.allclose(found["patched"], found["given"], rtol=1e-3, atol=1e-3) == equal
        assert found["answer"].all() or not equal
        assert not np.allclose(found["received"], found["given"], atol=1e-2)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_runs_of_the_aligned_positions_alone_equal_whole_ones(family):
    """… that ``capture`` makes sequence by sequence, without a prefix."""
    model = tiny_model(family)
    raw = [
        Pair(f"e{i}", f"c{i}", "harmed", [2, 3, *own], [2, 9, 8, 7, 3, *own], [0] * n, n - 1)
        for i, (own, n) in enumerate((([10, 11], 2), ([12], 3), ([13, 14, 15, 16], 1)))
    ]
    pairs = [answered(model, pair) for pair in raw]
    found = knock_out(
        loaded_of(model), pairs, spans=("context",), cuts=(1, 2), cuts_all=(1, 2), controls=("none", "elsewhere")
    )
    by = found.set_index(["example_id", *PLACE[1:]])
    for pair in pairs:
        view = build_view([pair.given], [pair.response], 0, 0)
        for readers in ("aligned", "all"):
            for layer in (0, 1):
                keys = torch.zeros(1, view.ids.shape[1], dtype=torch.bool)
                keys[0, 1:4] = True
                asking = ~keys if readers == "all" else torch.arange(keys.shape[1])[None] >= len(pair.given) - 1
                cut = Cut(frozenset({layer, layer + 1}), asking, keys)
                scores = logits(model, capture(model, view, [FINAL], cut=cut)[FINAL][pair.place])
                expected = (scores[pair.own] - scores[pair.other]).item()
                assert by.loc[(pair.example_id, readers, layer, 2, "none"), "patched"] == pytest.approx(
                    expected, rel=1e-4, abs=1e-4
                )


@pytest.mark.slow
def test_rows_do_not_depend_on_the_batch():
    loaded = loaded_of(planted())
    one, other = (
        knock_out(loaded, planted_pairs(), spans=("context", "template"), batch_size=size).sort_values(
            ["example_id", *PLACE], ignore_index=True
        )
        for size in (6, 1)
    )
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-4)


def test_long_contexts_take_smaller_batches():
    loaded = loaded_of(planted())
    pair = Pair("e", "c", "kept", [2, 3], [2, *[4] * 9000, 3], [5])
    assert bounded(loaded, planted_pairs(), 64) == 64
    assert bounded(loaded, [pair], 64) == 1


SHOTS = Context(({"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}), "say {prompt} now")


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (None, {"prompt": "ab"}),
        (Context.system("repeat the text"), {"system": "repeat the text", "prompt": "ab"}),
        (SHOTS, {"turns": "abba", "splice": "say now", "prompt": "ab"}),
    ],
)
def test_labels_find_every_message_even_if_two_are_the_same(context, expected):
    tokenizer = tiny().tokenizer
    ids = render(tokenizer, "ab", context)
    labels = labels_of(tokenizer, ids, "ab", context)
    assert len(labels) == len(ids)
    for label in set(labels) - {"template"}:
        text = tokenizer.decode([i for i, each in zip(ids, labels, strict=True) if each == label])
        assert text.replace(" ", "") == expected[label].replace(" ", "")
    assert set(labels) - {"template"} == set(expected)
    assert labels[-1] == "template"


def test_a_template_that_trims_is_followed_and_one_that_rewrites_is_not():
    tokenizer = tiny().tokenizer
    context = Context.system(" repeat ")
    for rewrite, labelled in (("m['content'] | trim", True), ("m['content'] | upper", False)):
        tokenizer.chat_template = (
            "{% for m in messages %}<|{{ m['role'] }}|>{{ " + rewrite + " }}<|end|>{% endfor %}<|assistant|>"
        )
        if labelled:
            ids = render(tokenizer, "ab", context)
            assert "system" in labels_of(tokenizer, ids, "ab", context)
        else:
            ids = tokenizer("<|system|> REPEAT <|end|><|user|>AB<|end|><|assistant|>", add_special_tokens=False)[
                "input_ids"
            ]
            assert labels_of(tokenizer, ids, "ab", context) == ()


def test_the_context_is_what_one_view_has_and_the_other_lacks():
    pair = planted_pairs()[0]
    assert positions(pair, "context") == (1, 2)
    assert positions(pair, "turns") == (2,)
    assert set(PARTS) > {"sink", "answer", "context"}
    tokenizer = tiny().tokenizer
    spliced = Context((), "say {prompt} now")
    without, given = render(tokenizer, "ab", None), render(tokenizer, "ab", spliced)
    found = context_span(without, given)  # not the prompt, which stands in its midst
    assert (
        tokenizer.decode([given[i] for i in found]).split()
        == tokenizer.decode(tokenizer("say  now")["input_ids"]).split()
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"spans": ("sistem",)}, "no span 'sistem'. Did you mean 'system'"),
        ({"readers": ("everyone",)}, "no kind of readers 'everyone'"),
        ({"cuts": (4,)}, "in 1 to 3 layers of this model at once, or in all"),
        ({"spans": ("splice",)}, "None of the spans splice is in these prompts"),
    ],
)
def test_what_cannot_be_cut_is_refused(words, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        knock_out(loaded_of(planted()), planted_pairs(), **words)


@pytest.mark.parametrize("of", ["capture", "mass"])
def test_exhausted_memory_says_what_to_lower(of, monkeypatch):
    def full(*_args, **_kwargs):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(knockout, of, full)
    run = attention if of == "mass" else partial(knock_out, spans=("system",), readers=("all",))
    with pytest.raises(UserError, match=r"Out of memory with batches of 6 examples.*--batch-size 3"):
        run(loaded_of(planted()), planted_pairs(), batch_size=6)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nnsight", "transformer_lens"])
def test_the_other_backends_knock_out_alike(backend):
    loaded = loaded_of(planted())
    one, other = (
        knock_out(loaded, planted_pairs()[:2], spans=("system",), cuts=(1, 0), controls=("none",), backend=each)
        for each in ("hooks", backend)
    )
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-4)


def test_an_adapter_is_cut_and_looked_through_as_it_acts():
    from peft import LoraConfig, get_peft_model

    model = planted()
    plain = knock_out(loaded_of(model), planted_pairs(), spans=("system",), controls=("none",))
    table = attention(loaded_of(model), planted_pairs())
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "o_proj"])).eval()
    again = knock_out(loaded_of(wrapped), planted_pairs(), spans=("system",), controls=("none",))
    pd.testing.assert_frame_equal(again, plain, rtol=1e-4, atol=1e-4)  # a fresh adapter does nothing
    pd.testing.assert_frame_equal(attention(loaded_of(wrapped), planted_pairs()), table, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.add_(5.0)
    moved = knock_out(loaded_of(wrapped), planted_pairs(), spans=("system",), controls=("none",))
    assert not np.allclose(moved["patched"], plain["patched"], atol=1e-2) or len(moved) < len(plain)
