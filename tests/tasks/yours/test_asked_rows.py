"""Rows as people have them: the same examples from every kind of file, and what cannot be read told by its line."""

import json

import pandas as pd
import pytest

from cr_interp.errors import UserError
from cr_interp.tasks.base import before
from cr_interp.tasks.yours.asked_rows import Columns, Wanted, filled, read_examples
from cr_interp.tasks.yours.each_own import each_own, shared_context
from cr_interp.tasks.yours.own import OwnTask, read_rows_of
from cr_interp.views import Context

ROWS = [
    {"question": "2+2?", "key": 4, "hint": "count", "who": "a"},
    {"question": "3+4?", "key": 7.0, "hint": "count on", "who": "a"},
    {"question": "1/2?", "key": 0.5, "hint": "a half", "who": "b"},
]
WANTED = Wanted(Columns(prompt="question", answer="key", cluster="who"), each="Hint: {hint}")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def count(context):
    return sum(len(message["content"].split()) for message in context.messages)


def test_the_same_examples_from_every_kind_of_file(tmp_path):
    write(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    pd.DataFrame(ROWS).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(ROWS).assign(key=["4", "7", "0.5"]).to_csv(tmp_path / "a.csv", index=False)
    for file in tmp_path.iterdir():
        found = read_rows_of(file, WANTED).examples
        assert [(e.prompt, e.answer, e.cluster) for e in found] == [
            ("2+2?", "4", "a"),
            ("3+4?", "7", "a"),
            ("1/2?", "0.5", "b"),
        ], file.name
        assert [e.context for e in found] == [Context.system(f"Hint: {row['hint']}") for row in ROWS]


def test_chats(tmp_path):
    chats = [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}]},
        {
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "b"},
                {"role": "assistant", "content": "c"},
                {"role": "user", "content": "d"},
                {"role": "assistant", "content": "what is asked for"},
            ]
        },
    ]
    read = read_rows_of(write(tmp_path / "c.jsonl", chats), Wanted())
    one, two = read.examples
    assert (one.prompt, one.history, one.context) == ("a", (), Context.system("Be kind."))
    assert two.prompt == "d"
    assert [message["content"] for message in two.history] == ["b", "c"]
    assert read.notes == [
        f"1 chats of {tmp_path / 'c.jsonl'} end with the assistant's message, which is what is asked for: "
        "it is left out"
    ]
    given = before(two, two.context)
    assert [message["content"] for message in given.messages] == ["Be short.", "b", "c"]
    assert before(two, None) == Context(two.history)
    assert shared_context(read.examples) is None


def test_a_key_of_some_rows_is_used_and_said(tmp_path):
    read = read_rows_of(write(tmp_path / "p.jsonl", [{"prompt": "a", "answer": "x"}, {"prompt": "b"}]), Wanted())
    assert [e.answer for e in read.examples] == ["x", ""]
    assert read.notes == [f"1 of 2 rows of {tmp_path / 'p.jsonl'} have an answer key; accuracies are of these"]


CHAT = [{"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    ("rows", "wanted", "said"),
    [
        ([{"q": "a"}], Wanted(), r"line 1: expected a text or a chat in 'prompt'; found q \(str\)"),
        ([{"prompt": "a", "hint": "h"}, {"prompt": "b", "hint": None}], Wanted(each="Hint: {hint}"),
         "line 2: the template 'Hint: {hint}' names 'hint', which this row does not have. It has prompt"),
        ([{"prompt": "a"}], Wanted(each="{hints.first}"), "names 'hints.first'"),
        ([{"prompt": "a", "context": 3}], Wanted(Columns(context="context")), "line 1: 'context' has to hold a context"),
        ([{"prompt": "a", "context": [{"role": "boss", "content": "x"}]}], Wanted(Columns(context="context")), "line 1: .*role"),
        ([{"prompt": "a", "hint": "use {prompt}"}], Wanted(each="{hint} {prompt}"), "line 1: .*exactly once"),
        ([{"messages": CHAT}, {"messages": [{"role": "tool", "content": "x"}]}], Wanted(), "line 2: a chat is not read"),
        ([{"messages": [{"role": "assistant", "content": "x"}]}], Wanted(), "line 1: .*Found assistant"),
        ([{"messages": [{"role": "system", "content": "s"}, *CHAT]}], Wanted(chats=False), "a context is given for all"),
        ([{"messages": [{"role": "system", "content": "s"}, *CHAT], "c": "t"}], Wanted(Columns(context="c")), "Keep one"),
        ([{"messages": [{"role": "system", "content": "s"}, *CHAT]}, {"messages": CHAT}], Wanted(), "1 of 2 rows bring"),
        ([{"prompt": "a", "answer": {"x": 1}}], Wanted(), "line 1: this answer cannot be graded, for it is a dict"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_by_line(tmp_path, rows, wanted, said):
    with pytest.raises(UserError, match=said):
        read_rows_of(write(tmp_path / "p.jsonl", rows), wanted)


def test_lines_are_those_of_the_file(tmp_path):
    (tmp_path / "p.jsonl").write_text('\n{"prompt": "a"}\n\n{"prompt": 3}\n')
    with pytest.raises(UserError, match=r"line 4: .*found int"):
        read_rows_of(tmp_path / "p.jsonl", Wanted())
    (tmp_path / "p.csv").write_text('prompt,hint\n"two\nlines",x\nb,\n')
    with pytest.raises(UserError, match="line 4: the template"):
        read_rows_of(tmp_path / "p.csv", Wanted(each="{hint}"))
    pd.DataFrame({"prompt": ["a", None]}).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(UserError, match="row 1: expected"):
        read_rows_of(tmp_path / "p.parquet", Wanted())


def test_what_is_filled_in_is_not_filled_again():
    assert filled("{a} {b}", {"a": "{b}", "b": [1, "ü"]}, "") == '{b} [1, "ü"]'


class Columnar:
    column_names = ("prompt",)

    def __getitem__(self, name):
        return ["a", "b"]


def test_rows_of_the_hub_are_numbered():
    assert [e.id for e in read_examples(Columnar(), "o/d", Wanted(), "test:").examples] == ["test:0", "test:1"]


def test_controls_of_contexts_that_rows_bring(tmp_path):
    hints = ["one", "one two three", "one two three four five", "one"]
    rows = [{"prompt": f"p{i}", "context": hint, "other": f"again {hint}"} for i, hint in enumerate(hints)]
    wanted = Wanted(Columns(context="context", paraphrase="other"))
    examples = read_rows_of(write(tmp_path / "p.jsonl", rows), wanted).examples
    contexts = OwnTask("p", tuple(examples), None, 8).contexts(count)
    assert set(contexts) == {"exact", "paraphrase", "mismatched", "irrelevant"}
    for example, hint in zip(examples, hints, strict=True):
        given = {name: before(example, each).messages[0]["content"] for name, each in contexts.items()}
        assert given["exact"] == hint
        assert given["paraphrase"] == f"again {hint}"
        assert given["mismatched"] in set(hints) - {hint}
        assert len(given["irrelevant"].split()) == len(hint.split())
    same = [{**row, "context": "one", "other": "1"} for row in rows]
    examples = read_rows_of(write(tmp_path / "q.jsonl", same), wanted).examples
    assert shared_context(examples) == Context.system("one")
    assert "mismatched" not in each_own(examples, count, "told")
