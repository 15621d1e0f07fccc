"""Input 4: files of prompts, contexts and rows, as bytes: JSONL, text, JSON, CSV, Parquet, and a task's description.

A case damages the bytes of sound files. Most are read, put into both views and graded, as every command does first; some go all
the way through ``compare``.
"""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from commands import command, imported
from hostile import bytes_damage, damage_file, damaged_bytes, damaged_object, file_damage, object_damage, values
from hypothesis import strategies as st

ROWS = [{"prompt": f"say {n} {'é' if n % 7 else ''}", "answer": "xyz"[n % 3], "id": f"i{n}"} for n in range(30)]
CONTEXT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "rule: shift"},
        {"role": "user", "content": "abc"},
        {"role": "assistant", "content": "bca"},
        {"role": "user", "content": [{"type": "text", "text": "one"}]},
    ],
    "splice": "hint {prompt} end",
}
TASK: dict[str, Any] = {
    "name": "mine",
    "train": {"dataset": "rows.csv"},
    "test": {"dataset": "rows.csv"},
    "columns": {"prompt": "prompt", "answer": "answer", "id": "id"},
    "validation": 0.3,
    "context": {"file": "context.txt"},
    "paraphrase": {"text": "other words"},
    "mismatched": {"text": "another rule"},
    "splice": None,
    "grader": {"kind": "contains", "letters": "ABCD", "labels": []},
    "max_new_tokens": 4,
}
OF = {
    "own": ["prompts.jsonl", "context.txt"],
    "own json": ["prompts.jsonl", "context.json"],
    "compare": ["prompts.jsonl", "context.json"],
    "task": ["rows.csv", "rows.jsonl", "rows.json", "rows.parquet", "task.yaml", "context.txt"],
    "plan": ["task.yaml"],
    "compare task": ["rows.jsonl", "task.yaml"],
}
SECTIONS = [
    "context",
    "train",
    "test",
    "columns",
    "grader",
    "splice",
    "validation",
    "max_new_tokens",
    "name",
    "paraphrase",
]


def _cases(looked: str) -> st.SearchStrategy:
    """What is damaged is what is then read."""
    described = "rows.jsonl" not in OF[looked] and looked != "plan"
    rows = [each for each in OF[looked] if each.startswith("rows")] or ["rows.jsonl"]
    file = st.sampled_from(OF[looked])
    return st.fixed_dictionaries(
        {
            "looked": st.just(looked),
            "rows": st.sampled_from([*rows * 3, "../../outside.txt", "x/y"]),
            "objects": st.lists(object_damage, max_size=2),
            "which": st.sampled_from(["rows", "context"] if described else ["rows", "task"]),
            "bytes": st.one_of(st.just([]), st.lists(st.tuples(file, bytes_damage), min_size=1, max_size=3)),
            "files": st.one_of(st.just([]), st.just([]), st.lists(st.tuples(file, file_damage), max_size=1)),
            "task": st.just([])
            if described
            else st.lists(st.tuples(st.sampled_from(SECTIONS), values), max_size=1),
        }
    ).filter(lambda case: case["objects"] or case["bytes"] or case["files"] or case["task"])


cases = st.sampled_from(
    ["own"] * 4 + ["own json"] * 4 + ["task"] * 7 + ["plan"] * 2 + ["compare", "compare task"]
).flatmap(_cases)


def prepare(sound: Path) -> None:
    from cr_interp.models.loading import load

    imported(
        "cr_interp.measure.compare",
        "cr_interp.report.study",
        "training.planning.plan_report",
    )
    load("builtin:organism-rules")
    (sound / "prompts.jsonl").write_text(_lines(ROWS))
    (sound / "context.txt").write_text("rule: shift\nbe brief — é\n")
    (sound / "context.json").write_text(json.dumps(CONTEXT))
    write_rows(sound, ROWS)


def write_rows(folder: Path, rows: list[Any]) -> None:
    (folder / "rows.jsonl").write_text(_lines(rows))
    (folder / "rows.json").write_text(json.dumps(rows))
    try:
        frame = pd.DataFrame(rows)
        frame.to_csv(folder / "rows.csv", index=False)
        frame.to_parquet(folder / "rows.parquet", index=False)
    except Exception:  # no table can be so
        for name in ("rows.csv", "rows.parquet"):
            (folder / name).write_bytes(_lines(rows).encode())


def _lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def play(case: dict[str, Any], sound: Path, folder: Path, outside: Path) -> tuple[str, Callable[[], None], str]:
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    rows, context, task = copy.deepcopy(ROWS), copy.deepcopy(CONTEXT), copy.deepcopy(TASK)
    task |= {"train": {"dataset": case["rows"]}, "test": {"dataset": case["rows"]}}
    changed = {"rows": rows, "context": context, "task": task}[case["which"]]
    damaged_object(changed, case["objects"])
    if case["which"] == "rows":
        write_rows(folder, rows)
        (folder / "prompts.jsonl").write_text(_lines(rows))
    (folder / "context.json").write_text(json.dumps(context))
    (folder / "task.yaml").write_text(yaml.safe_dump({**task, **dict(case["task"])}, allow_unicode=True))
    for name, damage in case["bytes"]:
        (folder / name).write_bytes(damaged_bytes((folder / name).read_bytes(), [damage]))
    for name, kind in case["files"]:
        if (folder / name).is_file() and not (folder / name).is_symlink():
            damage_file(folder / name, kind, outside)
    looked = case["looked"]
    if looked == "plan":
        words = ["plan", "organism-shift", "task=task.yaml", "max_new_tokens=null"]
        return " ".join(words), command(words), ""
    if looked.startswith("compare"):
        asked = (
            ["--task", "task.yaml"]
            if looked == "compare task"
            else ["--prompts", "prompts.jsonl", "--context", "context.json"]
        )
        words = [
            "compare",
            "a=builtin:organism-rules",
            *asked,
            "--examples",
            "2",
            "--max-new-tokens",
            "2",
            "--out",
            "out",
        ]
        return " ".join(words), command(words), ""
    return looked, both_views(looked, folder), ""


def typed(case: dict[str, Any]) -> bool:
    """Is what is read named by the user, who may name any file, also by a link?"""
    return case["looked"] in ("own", "own json", "compare")


def both_views(looked: str, folder: Path) -> Callable[[], None]:
    """Read a task, write its prompts in every view and grade a response: what each command does first."""

    def act() -> None:
        import sys

        from transformers import AutoTokenizer

        from cr_interp.errors import UserError
        from cr_interp.measure.pairs import Question, choose_task
        from cr_interp.models.known import ORGANISMS
        from cr_interp.system.visible import visible
        from cr_interp.views import check_context_shows, context_length, render

        try:
            if looked == "task":
                task = choose_task(Question(task="task.yaml", max_new_tokens=4))
            else:
                context = Path("context.json" if looked == "own json" else "context.txt")
                task = choose_task(Question(prompts="prompts.jsonl", context=context, max_new_tokens=4))
            tokenizer = AutoTokenizer.from_pretrained(ORGANISMS / "rules")
            contexts = task.contexts(lambda each: context_length(tokenizer, each))
            examples = task.examples("test")
            print(len(examples), "examples;", "contexts:", ", ".join(contexts))
            for example in [*examples[:3], *examples[-3:]]:
                plain = render(tokenizer, example.prompt)
                for name, context in contexts.items():
                    ids = render(tokenizer, example.prompt, context)
                    check_context_shows(tokenizer, [plain], [ids], name)
                    print(visible(repr(tokenizer.decode(ids))[:600]))
                outcome = task.grade(example, f"it is {example.answer}", False)
                print(visible(repr((example.id, example.prompt, example.answer))[:600]), "→", outcome)
        except UserError as error:
            print(f"error: {visible(error)}", file=sys.stderr)
            sys.exit(2)

    return act
