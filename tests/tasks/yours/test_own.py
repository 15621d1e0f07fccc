import pytest

from cr_interp.errors import UserError
from cr_interp.tasks.yours.asked_rows import Wanted
from cr_interp.tasks.yours.own import OwnTask, read_context, read_rows_of
from cr_interp.views import Context


def read_prompts(path):
    """The examples of a file whose columns have their usual names."""
    return tuple(read_rows_of(path, Wanted()).examples)


def test_prompts_and_context_from_files(tmp_path):
    (tmp_path / "p.jsonl").write_text(
        '{"prompt": "2+2?", "answer": "4"}\n\n{"prompt": "q", "answer": "a", "id": "x"}\n'
    )
    (tmp_path / "c.txt").write_text("Answer briefly.\n")
    (tmp_path / "c.json").write_text('{"splice": "Hint. {prompt}"}')
    examples = read_prompts(tmp_path / "p.jsonl")
    assert [e.id for e in examples] == ["1", "x"]
    assert read_context(tmp_path / "c.txt") == Context.system("Answer briefly.")
    assert read_context(tmp_path / "c.json").splice == "Hint. {prompt}"
    task = OwnTask("p", examples, Context(), 8)
    assert task.grade(examples[0], "It is 4.", False) == "right"
    assert task.grade(examples[0], "It is 44.", False) == "wrong"
    assert task.grade(examples[0], "It is", True) == "truncated"
    assert task.grade(examples[0], " ", False) == "unparsable"


def test_without_an_answer_nobody_says_what_is_right(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "2+2?"}\n{"prompt": "q", "answer": null}\n')
    examples = read_prompts(tmp_path / "p.jsonl")
    assert [each.answer for each in examples] == ["", ""]
    assert OwnTask("p", examples, Context(), 8).grade(examples[0], "4", False) == "ungraded"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1, is not JSON"),
        ('{"answer": "x"}', "line 1: expected"),
        ('{"prompt": "x", "answer": ["3"]}', "line 1: this answer cannot be graded, for it is a list"),
        ("", "no prompts"),
        ('{"prompt":"a","answer":"b","id":"1"}\n{"prompt":"a","answer":"b","id":"1"}', "share an id"),
        ('{"prompt":"a","answer":"b","id":1}\n{"prompt":"a","answer":"b","id":"1"}', "share an id"),
        ('{"prompt":"a","answer":"b","id":["x"]}', "line 1: an 'id' is"),
        ('{"prompt":"a","answer":"b","id":null}', "line 1: an 'id' is"),
        ('{"prompt":"a","answer":"b"}\n{"prompt":"c","answer":" "}', "line 2: the answer is empty"),
        ('{"prompt":"a","answer":"\\ud800"}', "line 1.*surrogate"),
    ],
)
def test_bad_files_say_where(tmp_path, text, said):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(UserError, match=said):
        read_prompts(tmp_path / "p.jsonl")


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match="Could not read"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="Could not read"):
        read_context(tmp_path / "none.txt")


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_a_prompt_may_hold_what_python_calls_the_end_of_a_line(character, tmp_path):
    (tmp_path / "p.jsonl").write_text(
        f'{{"prompt": "one{character}two", "answer": "x"}}\n{{"prompt": "b", "answer": "y"}}\n', encoding="utf-8"
    )
    assert [e.prompt for e in read_prompts(tmp_path / "p.jsonl")] == [f"one{character}two", "b"]


def test_encodings(tmp_path):
    row = '{"prompt": "café", "answer": "é"}\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "p.jsonl").write_text(row, encoding=encoding)
        (tmp_path / "c.txt").write_text("Sei kurz, Müller.", encoding=encoding)
        (tmp_path / "c.json").write_text('{"splice": "Müller. {prompt}"}', encoding=encoding)
        assert read_prompts(tmp_path / "p.jsonl")[0].prompt == "café"
        assert read_context(tmp_path / "c.txt") == Context.system("Sei kurz, Müller.")
        assert read_context(tmp_path / "c.json").splice == "Müller. {prompt}"
    for path, read in (("p.jsonl", read_prompts), ("c.txt", read_context), ("c.json", read_context)):
        (tmp_path / path).write_bytes(row.encode("latin-1"))
        with pytest.raises(UserError, match="not UTF-8: line 1"):
            read(tmp_path / path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("[]", "has to hold an object"),
        ("[" * 100_000, "nests too deep"),
        ('{"messages": "be brief"}', "'messages' are a list"),
        ('{"messages": ["be brief"]}', "exactly the keys"),
        ('{"messages": {"role": "system"}}', "'messages' are a list"),
        ('{"splice": 3}', "a text with"),
        ('{"messages": [{"role": ["system"], "content": "x"}]}', "exactly the keys"),
        ('{"messages": [{"role": "system", "content": null}]}', "has to be a text; found NoneType"),
    ],
)
def test_bad_contexts_are_told(data, said, tmp_path):
    (tmp_path / "c.json").write_text(data)
    with pytest.raises(UserError, match=said):
        read_context(tmp_path / "c.json")


def test_content_parts_are_one_text_or_refused(tmp_path):
    parts = '[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind.", "image_url": null}]'
    (tmp_path / "c.json").write_text(f'{{"messages": [{{"role": "system", "content": {parts}}}]}}')
    assert read_context(tmp_path / "c.json") == Context.system("Be brief.\nBe kind.")
    for bad in (
        '[{"type": "image_url", "image_url": "x"}]',
        '["Be brief."]',
        "[]",
        '[{"type": "text", "text": 3}]',
    ):
        (tmp_path / "c.json").write_text(f'{{"messages": [{{"role": "system", "content": {bad}}}]}}')
        with pytest.raises(UserError, match="content"):
            read_context(tmp_path / "c.json")
