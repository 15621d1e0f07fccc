"""Input 2: studies. Manifest, tables, logs and files of one are damaged, and commands and pages of the app look at it."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from commands import command, imported
from hostile import (
    VALUES,
    bytes_damage,
    damage_file,
    damaged_bytes,
    damaged_object,
    file_damage,
    object_damage,
    values,
)
from hypothesis import strategies as st

TABLES = ("generations", "drift", "cka_map", "token_drift")
#: Tables of why answers flip, with the tab of the page that shows each: there where a report, that page or `--flips` looks.
WHY = {
    "patching": "decided",
    "patching_windows": "windows",
    "patching_heads": "heads",
    "attribution": "heads",
    "knockout": "knockout",
    "attention": "attention",
    "lens": "lens",
    "directions": "directions",
    "direction_effects": "doses",
    "updates": "updates",
    "update_overlaps": "overlaps",
    "gradients": "gradients",
    "probes": "probes",
    "patching_examples": "decided",
}
_FRAMES: dict[str, pd.DataFrame] = {}
_MANIFEST: dict[str, Any] = {}
PAGES = ("overview", "layers", "maps", "tokens", "examples", "training", "suite", "try_it")

column = st.integers(0, 30)
cell = st.one_of(
    values,
    st.sampled_from(
        [
            np.int64(2**62),
            np.float32(1e38),
            b"\xff",
            pd.Timestamp("2020-01-01"),
            [1, [2]],
            {"a": 1},
            "base",
            "exact",
        ]
    ),
)
table_damage = st.one_of(
    st.tuples(st.just("drop"), column),
    st.tuples(st.just("fill"), column, cell),
    st.tuples(st.just("cell"), column, st.integers(0, 10**6), cell),
    st.tuples(
        st.just("kind"),
        column,
        st.sampled_from(["float32", "str", "category", "bool", "object", "int8", "datetime64[s]"]),
    ),
    st.tuples(st.just("rows"), st.sampled_from([0, 1, 2, 5])),
    st.tuples(st.just("twice")),
    st.tuples(st.just("rename"), column, st.sampled_from(["", "x", "seed", "arm", "\x1b[2J", "cluster"])),
    st.tuples(st.just("gaps"), column, st.integers(1, 5)),
    st.tuples(st.just("shuffle"), column),
    st.tuples(st.just("bytes"), st.lists(bytes_damage, min_size=1, max_size=3)),
)
LINES = [
    b"{}", b"[]", b"1", b"null", b'{"step": 1}', b'{"step": -1, "kind": "train"}', b'{"step": 1e400, "kind": "train", "loss": 1}',
    b'{"step": 3, "kind": "eval", "acc_x": "a", "harm": [1]}', b'{"step": 4, "kind": "train", "loss": NaN, "terms": []}',
    b'{"step": 5, "kind": "train", "terms": {"a": {"b": {"c": 1}}}}', b'{"step": 5, "kind": {"a": 1}, "loss": 1e308}',
    b'{"step": 9007199254740991, "kind": "train", "loss": 2}', b'{"step": true, "kind": "eval"}', b"[" * 40000, b'{"a":' * 40000,
    b'{"step": 2, "kind": "train", "arm": "x", "seed": "y", "averaged": 3}', b'{"step": 2.5, "kind": "train", "loss": 1}',
    b'{"step": 7, "kind": "eval", "acc_x": 5, "acc_xc": -3, "harm": 1e300}', b"\xff\xfe\x00", b'{"step": 1, "": 1, "\\u001b": 2}',
]  # fmt: skip
log_damage = st.one_of(
    st.tuples(st.just("line"), st.sampled_from(LINES)), st.tuples(st.just("bytes"), bytes_damage)
)
RUNS = [
    "x-s0",
    "a-s1e9",
    "-s0",
    "a\nb-s1",
    "a-s99999999999999999999",
    "é-s1",
    "\udcff-s1",
    "opd-s00",
    "opd-s-1",
    "../s/opd-s0",
]
FILES = [
    "manifest.json",
    *(f"tables/{name}.parquet" for name in TABLES),
    "runs/opd-s0/train.jsonl",
    "runs/nca-s0/train.jsonl",
    "runs/opd-s0/made_of.json",
]
MANIFEST = st.one_of(
    st.tuples(st.just("object"), st.lists(object_damage, min_size=1, max_size=4)),
    st.tuples(
        st.just("section"),
        st.sampled_from(
            [
                "task",
                "model",
                "arms",
                "seeds",
                "context",
                "evaluation",
                "config",
                "training",
                "teacher",
                "name",
                "created",
                "schema_version",
                "versions",
                "no_context",
            ]
        ),
        st.sampled_from(VALUES),
    ),
    st.tuples(st.just("bytes"), st.lists(bytes_damage, min_size=1, max_size=3)),
)
#: What a study's task may be, if its manifest names a file of it.
TASKS = [
    {"context": {"file": "../../../outside.txt"}},
    {"context": {"file": "link.txt"}},
    {"context": {"file": "pipe"}},
    {"test": {"dataset": "../../../outside.txt"}},
    {"test": {"dataset": "somebody/data"}},
    {"context": {"url": "http://x.invalid"}},
    {"context": {"text": ""}},
    {"grader": {"kind": "boxed"}},
    {"splice": "{prompt}"},
    {"columns": {"prompt": "x"}},
    {},
]
_SENT = [["report", "s", "--out", "sent.html"], ["report", "s", "--out", "sent.md"], ["table", "s", "--flips"]]
_damages = {
    "manifest": st.one_of(st.none(), MANIFEST),
    "log": st.lists(log_damage, max_size=2),
    "files": st.one_of(st.just([]), st.lists(st.tuples(st.sampled_from(FILES), file_damage), max_size=2)),
    "run": st.one_of(st.none(), st.none(), st.sampled_from(RUNS)),
    "task": st.one_of(st.none(), st.none(), st.none(), st.sampled_from(TASKS)),
}
_why = st.fixed_dictionaries(
    {
        **_damages,
        "looked": st.one_of(
            st.sampled_from(_SENT), st.sampled_from([f"mechanism?tab={tab}" for tab in WHY.values()])
        ),
        "tables": st.lists(
            st.tuples(st.sampled_from([*TABLES, *[*WHY] * 2]), table_damage), min_size=1, max_size=3
        ),
    }
)
_others = st.fixed_dictionaries(
    {
        **_damages,
        "looked": st.one_of(
            st.sampled_from(
                [
                    ["table", "s"],
                    ["table", "s", "--json"],
                    ["table", "s", "--markdown", "--seeds"],
                    ["table", "s", "--interval", "within"],
                    ["table", "s", "--control", "mismatched"],
                    ["controls", "s"],
                    ["controls", "s", "--layers", "--measure", "cka"],
                    ["controls", "s", "--markdown", "--measure", "norm_ratio"],
                    ["export", "s", "out"],
                    ["export", "s", "out", "--light"],
                    ["studies"],
                    ["explain", "s", "--examples", "1"],
                    ["evaluate", "s"],
                    ["capture", "s"],
                    ["table", "studies/s"],
                    ["table", "studies"],
                    ["export", "studies", "out"],
                ]
            ),
            st.sampled_from(PAGES),
        ),
        "tables": st.lists(st.tuples(st.sampled_from(TABLES), table_damage), max_size=2),
    }
).filter(lambda case: any(case[name] for name in ("manifest", "tables", "log", "files", "run", "task")))
cases = st.sampled_from([_others] * 3 + [_why]).flatmap(lambda which: which)


def prepare(sound: Path) -> None:
    from synthetic import make_study

    from cr_interp.report.sending import report_text
    from cr_interp.study.searching import BUNDLED

    imported(
        "streamlit.testing.v1",
        "cr_interp.figures",
        "cr_interp.mechanism.explain",
        "cr_interp.report.sending",
        "cr_interp.report.study",
        "cr_interp.report.suite",
        "training.studies.pipeline",
    )
    imported(
        *(
            f"app.{name}"
            for name in ("main_pages", "parts", "sidebar", "mechanism_tabs", "recipes.study", "recipes.tryout")
        )
    )
    imported(
        *(f"app.queries.{name}" for name in ("state", "suite_state", "summary", "shelf", "token_table", "live"))
    )
    study = make_study(
        sound / "s",
        examples=8,
        seeds=(0, 1),
        steps=40,
        tables=("generations", "drift", "training", "cka_map", "token_drift"),
    )
    config = json.loads((BUNDLED / "organism-shift" / "manifest.json").read_text())["config"]
    config["evaluation"] |= {"examples": 2, "permutations": 0}
    study.update_manifest(config=config, task="rules:shift", model="builtin:organism-rules")
    (study.run_path("opd", 0) / "made_of.json").write_text('{"made_of": "#0", "parts": {"seed": 0}}')
    (sound / "why").mkdir()
    for name in WHY:
        frame = pd.read_parquet(BUNDLED / "organism-shift" / "tables" / f"{name}.parquet")
        _FRAMES[name] = frame[frame["arm"].isin(["opd", "nca"]) & (frame["seed"] == 0)].head(500)
        _FRAMES[name].to_parquet(sound / "why" / f"{name}.parquet", index=False)
    _FRAMES.update({name: pd.read_parquet(study.table_path(name)) for name in TABLES})
    report_text(study, "md")  # what draws is imported when it first draws
    _MANIFEST.update(json.loads((study.path / "manifest.json").read_text()))


def play(case: dict[str, Any], sound: Path, folder: Path, outside: Path) -> tuple[str, Callable[[], None], str]:
    study = folder / "studies" / "s"
    shutil.copytree(sound / "s", study)
    if case["looked"] in _SENT or "mechanism" in case["looked"]:
        shutil.copytree(sound / "why", study / "tables", dirs_exist_ok=True)
    _damage_manifest(study / "manifest.json", case["manifest"])
    if case["task"] is not None:
        _name_task(study, case["task"], outside)
    for name, damage in case["tables"]:
        _damage_table(study / "tables" / f"{name}.parquet", _FRAMES[name], damage)
    log = study / "runs" / "opd-s0" / "train.jsonl"
    for kind, what in case["log"]:
        data = log.read_bytes()
        log.write_bytes(data + what + b"\n" if kind == "line" else damaged_bytes(data, [what]))
    if case["run"] is not None:
        copied = study / "runs" / case["run"]
        if not copied.exists():
            copied.mkdir(parents=True)
            shutil.copy(study / "runs" / "nca-s0" / "train.jsonl", copied)
    for name, kind in case["files"]:
        if (study / name).is_file() and not (study / name).is_symlink():
            damage_file(study / name, kind, outside)
    if isinstance(case["looked"], str):
        return f"page {case['looked']}", page(case["looked"]), ""
    measures = case["looked"][0] in ("evaluate", "capture", "explain")
    return " ".join(case["looked"]), command(case["looked"]), "studies/s/" if measures else ""


def _damage_manifest(file: Path, damage: tuple | None) -> None:
    data = copy.deepcopy(_MANIFEST)
    if damage is None:
        return
    if damage[0] == "bytes":
        file.write_bytes(damaged_bytes(file.read_bytes(), damage[1]))
        return
    data = damaged_object(data, damage[1]) if damage[0] == "object" else data | {damage[1]: damage[2]}
    file.write_text(json.dumps(data))


def _name_task(study: Path, changes: dict[str, Any], outside: Path) -> None:
    told = {
        "name": "mine",
        "train": {"dataset": "rows.jsonl"},
        "test": {"dataset": "rows.jsonl"},
        "context": {"text": "be brief"},
        "grader": {"kind": "contains"},
        **changes,
    }
    (study / "task.yaml").write_text(json.dumps(told))
    (study / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"p{n}", "answer": "x"}) + "\n" for n in range(40))
    )
    (study / "link.txt").symlink_to(outside)
    try:
        manifest = json.loads((study / "manifest.json").read_text())
        manifest["task"] = str(study / "task.yaml")
        (study / "manifest.json").write_text(json.dumps(manifest))
    except (ValueError, TypeError):
        pass  # it is damaged already


def _damage_table(file: Path, frame: pd.DataFrame, damage: tuple) -> None:
    kind, *more = damage
    if kind == "bytes":
        file.write_bytes(damaged_bytes(file.read_bytes(), more[0]))
        return
    frame = frame.copy()
    name = frame.columns[more[0] % len(frame.columns)] if more and kind != "rows" else ""
    try:
        if kind == "drop":
            frame = frame.drop(columns=name)
        elif kind == "fill":
            frame[name] = [more[1]] * len(frame)
        elif kind == "cell":
            column = frame[name].astype(object)
            column.iloc[more[1] % len(frame)] = more[2]
            frame[name] = column if isinstance(more[2], str | bytes | list | dict) else column.infer_objects()
        elif kind == "kind":
            frame[name] = frame[name].astype(more[1])
        elif kind == "rows":
            frame = frame.head(more[0])
        elif kind == "twice":
            frame = pd.concat([frame, frame])
        elif kind == "rename":
            frame = frame.rename(columns={name: more[1]})
        elif kind == "gaps":
            frame[name] = frame[name].astype(object).where(np.arange(len(frame)) % more[1] != 0, None)
        elif kind == "shuffle":
            frame[name] = frame[name].sample(frac=1, random_state=0).to_numpy()
        frame.to_parquet(file, engine="pyarrow", index=False)
    except Exception:
        file.write_bytes(b"PAR1" + repr(damage).encode("utf-8", errors="replace"))  # no table can be so


def page(name: str) -> Callable[[], None]:
    """The app's page on the study, as Streamlit runs it; what it says in red is an error."""

    def act() -> None:
        import os
        import sys

        from streamlit.testing.v1 import AppTest

        from cr_interp.study import searching

        searching.BUNDLED = Path("none")
        os.environ["CR_INTERP_STUDIES"] = "studies"
        main = Path(__file__).resolve().parents[2] / "app" / "main.py"
        app = AppTest.from_file(str(main), default_timeout=200)
        screen, _, tab = name.partition("?tab=")
        if tab:
            app.query_params["tab"] = tab
        app = (app if screen == "overview" else app.switch_page(f"screens/{screen}.py")).run()
        for raised in app.exception:
            print(f"Traceback (most recent call last): {raised.message} {raised.stack_trace}", file=sys.stderr)
        shown = [
            str(each.value)
            for part in (app.markdown, app.caption, app.info, app.code, app.error)
            for each in part
        ]
        print("\n".join(shown).encode("utf-8", errors="replace").decode())
        unforeseen = [text for text in shown if "cannot be shown:" in text]
        if unforeseen:
            print(
                "Traceback (most recent call last): caught: " + " | ".join(unforeseen),
                *(e.value for e in app.code),
                file=sys.stderr,
            )
        if app.exception or unforeseen:
            sys.exit(1)
        if app.error:
            print(
                "error: " + " ".join(" ".join(str(each.value) for each in app.error).split())[:3000],
                file=sys.stderr,
            )
            sys.exit(2)

    return act
