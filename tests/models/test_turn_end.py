"""A response ends where the chat template ends a turn, whatever a tokenizer or a configuration calls the end."""

import pytest
from chatty import CHATML, chatty, follower

from cr_interp.models.generation import Decoding, decode_text, generate
from cr_interp.models.loading import Loaded
from cr_interp.models.turn_end import turn_ends
from cr_interp.views import render

#: After the assistant's header the answer 42, the end of the turn; and, if nobody stops it, babble.
STEPS = {"Ċ": "4", "4": "2", "2": "<|im_end|>", "<|im_end|>": "x", "x": "y", "y": "x"}
ENDS = {
    "chatml": (CHATML, ["<|im_end|>"]),
    "spaces before the end": (CHATML.replace("+ '<|im_end|>", "+ ' \n<|im_end|>"), ["<|im_end|>"]),
    "end of text": (CHATML.replace("<|im_end|>", "<|endoftext|>"), ["<|endoftext|>"]),
    "no end": (CHATML.replace("<|im_end|>\\n", "").replace("<|im_end|>\n", ""), []),
    "no assistant": ("{{ raise_exception('only users') }}", []),
    "today": (CHATML + "{{ strftime_now('%d') * 0 }}", ["<|im_end|>"]),
}


@pytest.mark.parametrize("template", ENDS)
def test_the_end_is_found_by_rendering_a_turn(template):
    written, expected = ENDS[template]
    tokenizer = chatty(written)
    assert list(turn_ends(tokenizer)) == tokenizer.convert_tokens_to_ids(expected)
    tokenizer.chat_template = CHATML  # what was found is of the template, not of the tokenizer
    assert list(turn_ends(tokenizer)) == tokenizer.convert_tokens_to_ids(["<|im_end|>"])


def test_an_end_in_plain_text_is_said():
    with pytest.warns(UserWarning, match="'### User:', which is not one special token"):
        assert turn_ends(chatty(CHATML.replace("<|im_end|>\n", "\n### User:"))) == ()


@pytest.mark.parametrize("eos", ["<|im_end|>", "<|endoftext|>"])
def test_a_base_models_tokenizer_ends_a_turn_like_an_instruct_models(eos):
    tokenizer = chatty(eos=eos)
    model = follower(tokenizer, STEPS, [tokenizer.eos_token_id])
    loaded = Loaded("follower", model, tokenizer)
    (said,) = generate(loaded, [render(tokenizer, "6 times 7?")], Decoding(8))
    assert not said.truncated
    assert tokenizer.convert_ids_to_tokens(list(said.ids)) == ["4", "2", "<|im_end|>"]
    assert decode_text(loaded, said) == "42"


def test_an_end_that_is_not_called_special_is_no_part_of_the_answer():
    tokenizer = chatty(eos="<|endoftext|>")
    tokenizer.add_tokens(["<end>"])
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<end>")
    model = follower(tokenizer, {"Ċ": "4", "4": "<end>", "<end>": "x"}, [0])
    loaded = Loaded("follower", model, tokenizer)
    (said,) = generate(loaded, [render(tokenizer, "2 times 2?")], Decoding(8))
    assert decode_text(loaded, said) == "4"
