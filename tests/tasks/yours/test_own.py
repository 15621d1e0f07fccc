import pytest

from cr_interp.errors import UserError
from cr_interp.tasks.yours.own import OwnTask, read_context, read_prompts
from cr_interp.views import Context


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1, is not JSON"),
        ('{"prompt": "x"}', "line 1: expected"),
        ("", "no prompts"),
        ('{"prompt":"a","answer":"b","id":"1"}\n{"prompt":"a","answer":"b","id":"1"}', "share an id"),
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
