"""Described tasks on local rows in the hub's schema: splits, contexts, and what is said when something is wrong."""

import hashlib
import json

import pandas as pd
import pytest
import yaml
from stand_in import ANSWERS, hub_rows, stand_in, write_jsonl

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from cr_interp.tasks.yours import sources
from cr_interp.tasks.yours.described import published_names
from cr_interp.views import Context


def words(context: Context) -> int:
    return sum(len(m["content"].split()) for m in context.messages) + len(context.splice.split())


def test_the_bundled_descriptions_are_whole_and_reach_for_nothing_until_asked():
    assert set(published_names()) == set(ANSWERS)
    for name in published_names():
        task = get_task(f"hub:{name}")
        assert task.name == name
        assert not task.is_local
        with pytest.raises(UserError, match=r"hub did not answer.*HF_HUB_OFFLINE"):
            task.examples("test")


@pytest.mark.parametrize("name", list(ANSWERS))
def test_stand_in_rows_go_the_whole_way(name, tmp_path):
    task = get_task(str(stand_in(name, tmp_path)))
    assert task.is_local
    test = task.examples("test", 5, seed=1)
    assert test == task.examples("test", None, seed=1)[:5]
    assert test != task.examples("test", 5, seed=2)
    assert test[0].prompt.startswith("test question")
    contexts = task.contexts(words)
    assert list(contexts) == ["exact", "paraphrase", "mismatched", "irrelevant"]
    assert abs(words(contexts["irrelevant"]) - words(contexts["exact"])) <= 2
    if name == "dapo":
        assert all("{prompt}" in context.splice and not context.messages for context in contexts.values())
    else:
        assert contexts["exact"] == Context.system("Think, then answer.")
    right = rf"<answer>{test[0].answer}</answer> \boxed{{{test[0].answer}}}"
    assert task.grade(test[0], right, False) == "right"
    assert task.grade(test[0], "hm", False) == "unparsable"


def test_the_validation_split_is_cut_by_the_prompt_and_nothing_tested_is_trained(tmp_path):
    path = stand_in("medmcqa", tmp_path, n=200)
    rows = hub_rows("medmcqa", "train", 200)
    # Duplicates, another order, and a test prompt among the training rows.
    write_jsonl(tmp_path / "medmcqa-train.jsonl", [*rows[::-1], *rows[:50], hub_rows("medmcqa", "test", 1)[0]])
    task = get_task(str(path))
    train, validation, test = (
        {e.prompt for e in task.examples(split)} for split in ("train", "validation", "test")
    )
    assert not train & validation
    assert not (train | validation) & test
    assert len(train | validation) == 200
    assert 8 <= len(validation) <= 35  # 10 % of 200
    other = tmp_path / "other"
    other.mkdir()
    again = get_task(str(stand_in("medmcqa", other, n=200)))
    assert {e.prompt for e in again.examples("validation")} == validation


def test_parquet_and_csv_are_read_by_the_same_code(tmp_path):
    path = stand_in("safety", tmp_path)
    rows = hub_rows("safety", "train", 40)
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    pd.DataFrame([{"content": r["content"][0]["content"], "answer": r["answer"]} for r in rows]).to_csv(
        tmp_path / "rows.csv"
    )
    expected = get_task(str(path)).examples("train")
    told = yaml.safe_load(path.read_text())
    for file in ("rows.parquet", "rows.csv"):
        (tmp_path / "b.yaml").write_text(yaml.safe_dump({**told, "train": {"dataset": file}}))
        assert get_task(str(tmp_path / "b.yaml")).examples("train") == expected


def test_contexts_from_every_form(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "c.jsonl", [{"hint": {"text": "one"}}, {"hint": {"text": " two "}}])
    (tmp_path / "c.json").write_text(json.dumps({"splice": "Hint. {prompt}"}))
    digest = hashlib.sha256(b"pinned\n").hexdigest()
    pinned = tmp_path / "cache/cr_interp/texts" / digest
    pinned.parent.mkdir(parents=True)
    pinned.write_bytes(b"pinned\n")
    forms = [
        ({"text": " words "}, Context.system("words")),
        ({"file": "c.json"}, Context(splice="Hint. {prompt}")),
        ({"dataset": "c.jsonl", "column": "hint.text", "row": 1}, Context.system("two")),
        ({"url": "https://example.invalid/c.txt", "sha256": digest}, Context.system("pinned")),
    ]
    for form, expected in forms:
        task = get_task(str(stand_in("safety", tmp_path, context=form)))
        assert task.contexts(words)["exact"] == expected


def test_a_text_that_changed_at_its_address_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, _):
            return b"something else"

    monkeypatch.setattr(sources.urllib.request, "urlopen", lambda *_, **__: Answer())
    with pytest.raises(UserError, match="not the one that was pinned"):
        sources._downloaded("https://example.invalid", "0" * 64)

    def unreachable(*_, **__):
        raise sources.urllib.error.URLError("no route")

    monkeypatch.setattr(sources.urllib.request, "urlopen", unreachable)
    with pytest.raises(UserError, match=r"out of reach.*context: \{file"):
        sources._downloaded("https://example.invalid", "0" * 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"columns": {"prompt": "contents", "answer": "answer"}},
            "Did you mean 'content'.*Found: content, answer",
        ),
        ({"columns": {"prompt": "content", "answer": "source.x"}}, "no column 'source.x'"),
        ({"columns": {"prompt": "source", "answer": "answer", "id": "source"}}, None),
        ({"columns": {"prompt": "content", "answer": "answer", "id": "source"}}, "share an id"),
        ({"test": {"dataset": "nowhere.jsonl"}}, "There is no file"),
        ({"test": {"dataset": "medmcqa-test.jsonl", "split": "tset"}}, "no split 'tset'"),
        ({"validation": 1e-9}, "none of them falls into the validation"),
    ],
)
def test_bad_rows_are_explained(changes, said, tmp_path):
    task = get_task(str(stand_in("medmcqa", tmp_path, **changes)))
    if said is None:  # every prompt is the same text here, so one example is left
        assert len(task.examples("test")) == 1
        return
    with pytest.raises(UserError, match=said):
        task.examples("validation")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"content": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "answer": "A"},
            "system, user",
        ),
        ({"content": 3, "answer": "A"}, "found int"),
        (
            {"content": [{"role": "user", "content": [{"type": "image", "image": "x"}]}], "answer": "A"},
            "not a text \\('image'",
        ),
        ({"content": [{"role": "user", "content": None}], "answer": "A"}, "row 0.*found NoneType"),
        ({"content": ["u"], "answer": "A"}, "found list"),
    ],
)
def test_prompts_that_are_no_single_user_message_are_refused(row, said, tmp_path):
    path = stand_in("medmcqa", tmp_path)
    write_jsonl(tmp_path / "medmcqa-test.jsonl", [row])
    with pytest.raises(UserError, match=said):
        get_task(str(path)).examples("test")


def test_content_parts_of_a_prompt_are_one_text(tmp_path):
    path = stand_in("medmcqa", tmp_path)
    parts = [{"type": "text", "text": "One?"}, {"type": "text", "text": "Two?"}]
    write_jsonl(
        tmp_path / "medmcqa-test.jsonl", [{"content": [{"role": "user", "content": parts}], "answer": "A"}]
    )
    assert get_task(str(path)).examples("test")[0].prompt == "One?\nTwo?"


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        ("choice", "", "it is empty"),
        ("choice", None, "it is missing"),
        ("choice", ["A", "B"], "it is a list"),
        ("choice", "Paris", "'Paris' is none of A, B, C, D"),
        ("choice", 0, "'0' is none of"),
        ("contains", " ", "it is empty"),
        ("contains", None, "it is missing"),
        ("boxed", "", "it is empty"),
        ("boxed", {"x": 1}, "it is a dict"),
        ("answer_tag", "", "it is empty"),
        ("answer_tag", "perhaps", "'perhaps' is none of yes, no"),
    ],
)
def test_an_answer_that_no_response_can_match_is_refused(kind, answer, said, tmp_path):
    grader = {"kind": kind, "labels": ["yes", "no"]}
    path = stand_in("medmcqa", tmp_path, grader=grader)
    good = {"choice": "B", "answer_tag": "Yes."}.get(kind, 4)
    write_jsonl(
        tmp_path / "medmcqa-test.jsonl", [{"content": "a", "answer": good}, {"content": "b", "answer": answer}]
    )
    with pytest.raises(UserError, match=f"row 1: this answer cannot be graded, for {said}"):
        get_task(str(path)).examples("test")


def test_whole_numbers_with_gaps_elsewhere_are_whole(tmp_path):
    path = stand_in("medmcqa", tmp_path, grader={"kind": "contains"})
    write_jsonl(
        tmp_path / "medmcqa-test.jsonl", [{"content": "a", "answer": 4.0}, {"content": "b", "answer": 4.5}]
    )
    assert {e.answer for e in get_task(str(path)).examples("test")} == {"4", "4.5"}


def test_damaged_rows_are_explained(tmp_path):
    path = stand_in("medmcqa", tmp_path)
    (tmp_path / "medmcqa-test.jsonl").write_text('{"content"')
    with pytest.raises(UserError, match="could not be read as a dataset"):
        get_task(str(path)).examples("test")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grader": {"kind": "chioce"}}, "'grader.kind'"),
        ({"contxt": {"text": "x"}}, "'contxt'"),
        ({"context": {"text": "x", "file": "y"}}, "exactly one of"),
        ({"context": {"url": "https://x"}}, "needs 'sha256'"),
        ({"context": {"url": "http://x", "sha256": "0" * 64}}, "context.url"),
        ({"splice": "{prompt} only"}, "once each"),
        # What would be left aside without a word.
        ({"mismatched": {"each": "Hint: {answer}"}}, "one text for all"),
        ({"paraphrase": {"each": "Hint: {answer}"}}, "paraphrase one of each row"),
        ({"columns": {"prompt": "content", "paraphrase": "answer"}}, "paraphrase one of each row"),
        ({"columns": {"prompt": "content", "context": "answer"}}, "both 'context' and 'columns.context'"),
    ],
)
def test_bad_descriptions_are_explained(changes, said, tmp_path):
    with pytest.raises(UserError, match=said):
        get_task(str(stand_in("medmcqa", tmp_path, **changes)))


def test_files_that_are_no_descriptions(tmp_path):
    with pytest.raises(UserError, match="Could not read"):
        get_task(str(tmp_path / "none.yaml"))
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        get_task(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text("x: !!python/object/apply:os.system ['exit 1']")
    with pytest.raises(UserError, match="not valid YAML"):
        get_task(str(tmp_path / "b.yaml"))


# -- what the hub may answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "DatasetNotFoundError:Dataset 'o/d' is a gated dataset on the Hub. You must be authenticated",
            "gated.*hf auth login",
        ),
        ("DatasetNotFoundError:Dataset 'o/d' doesn't exist on the Hub.", "has no dataset o/d.*Check the name"),
        ("ConnectionError:Couldn't reach 'o/d' on the Hub (LocalEntryNotFoundError)", "hub did not answer"),
        ("ConnectTimeout:timed out", "hub did not answer"),
        ("ValueError:Unknown split \"x\". Should be one of ['train'].", "no split 'train'"),
        ("RuntimeError:odd", "could not be read as a dataset: odd"),
    ],
)
def test_what_the_hub_says_is_told_with_what_to_do(error, said, monkeypatch):
    datasets = pytest.importorskip("datasets")
    name, text = error.split(":", 1)
    kind = getattr(datasets.exceptions, name, None) or {
        "ConnectionError": ConnectionError,
        "ValueError": ValueError,
    }.get(name, type(name, (Exception,), {}))

    def fail(*_, **__):
        raise kind(text)

    monkeypatch.setattr(datasets, "load_dataset", fail)
    sources.read_rows.cache_clear()
    with pytest.raises(UserError, match=said):
        sources.read_rows(sources.Rows(dataset="o/d"))


def test_without_the_package_one_is_told_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    sources.read_rows.cache_clear()
    with pytest.raises(UserError, match="extra 'hub'"):
        sources.read_rows(sources.Rows(dataset="o/d"))


def test_what_a_study_notes_of_a_description_has_no_keys_that_it_does_not_set(tmp_path):
    """Or every older study of a description would count as one of another."""
    told = get_task(str(stand_in("medmcqa", tmp_path))).description.told()
    assert set(told) == {
        "name",
        "train",
        "test",
        "columns",
        "validation",
        "context",
        "paraphrase",
        "mismatched",
        "splice",
        "grader",
        "max_new_tokens",
    }
    assert set(told["grader"]) == {"kind", "letters", "labels"}
    assert set(told["columns"]) == {"prompt", "answer", "id"}
    assert "each" not in told["context"]


@pytest.mark.parametrize("url", ["https://a b/c", "https://[::1", "https://x/\u2028", "https://", "https://x:y/"])
def test_an_address_that_is_none_is_said(url, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="is out of reach"):
        sources.read_text(sources.Text(url=url, sha256="0" * 64), tmp_path)


def test_a_template_of_each_row_is_no_text_for_all(tmp_path):
    with pytest.raises(UserError, match="filled from each row"):
        sources.read_text(sources.Text(each="Hint: {hint}"), tmp_path)
