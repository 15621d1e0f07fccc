"""The journeys of "Your student, your context": the page's files are written and its commands run, on tiny models."""

import os
import re
import shlex
from pathlib import Path

import pytest
from tiny import tiny

from cr_interp.cli import app, plug_in
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/your-student.md"
SECTIONS = dict(
    re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
)
KEYLESS = {"changed", "agreement", "delta_len", "fidelity", "invariance", "min_cosine"}

pytestmark = pytest.mark.slow


def save(folder: Path, seed: int) -> None:
    loaded = tiny(seed=seed)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every checkpoint that the page names, random, and an adapter on one of them."""
    peft = pytest.importorskip("peft", reason="the extra `lora` is not installed")
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "student", "opd-0", "opd-1", "nca-0", "nca-1")):
        save(folder / name, seed)
    import torch

    torch.manual_seed(9)
    adapted = peft.get_peft_model(
        tiny(seed=0).model, peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    )
    adapted.peft_config["default"].base_model_name_or_path = str(folder / "base")
    adapted.save_pretrained(folder / "adapter")
    tiny(seed=0).tokenizer.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def there(models, tmp_path, monkeypatch):
    for each in models.iterdir():
        (tmp_path / each.name).symlink_to(each, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def walk(section: str) -> None:
    """Write the section's files and type its commands."""
    plug_in()
    text = SECTIONS[section]
    for name, content in re.findall(r"```\w+ title=\"(.+?)\"\n(.*?)```", text, re.DOTALL):
        Path(name).write_text(content, encoding="utf-8")
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "cr-interp"
            app(arguments, standalone_mode=False)


def test_a_persona_and_no_key(there, capfd):
    walk("A persona, and no answer key")
    study = Study.open("studies/persona")
    assert set(metric_table(study)["metric"]) == KEYLESS
    assert set(study.table("generations")["outcome"]) == {"ungraded"}
    found = metric_table(study).query("seed == 0").set_index(["arm", "metric"])["estimate"]
    assert found["student", "fidelity"] > 0
    shown = capfd.readouterr()
    assert "No example has an answer key" in shown.out
    assert "cut off at 12 tokens" in shown.err


def test_a_hint_for_each_example(there):
    walk("A hint for each example")
    study = Study.open("studies/hints")
    rows = study.table("generations")
    assert set(rows["control"]) == {"none", "exact", "mismatched", "irrelevant"}
    exact = rows[(rows["control"] == "exact") & (rows["arm"] == "student")].set_index("prompt")
    assert "count your fingers" in exact.loc["2 and 2", "before"]
    assert exact["answer"].to_dict() == {"2 and 2": "4", "3 and 4": "7", "9 less 1": "8", "half of 2": "1"}
    other = rows[(rows["control"] == "mismatched") & (rows["prompt"] == "2 and 2")]["before"]
    assert not other.str.contains("count your fingers").any()
    assert {"acc_x", "harm", "invariance"} <= set(metric_table(study)["metric"])


def test_a_chat_file_with_a_schema(there):
    walk("A chat file, graded by a schema")
    study = Study.open("studies/tickets")
    rows = study.table("generations")
    assert study.manifest["context"]["messages"][0]["content"] == "answer in json"
    assert set(rows["control"]) == {"none", "exact", "mismatched", "irrelevant"}
    asked = rows[(rows["control"] == "exact") & (rows["prompt"] == "where is my parcel")].iloc[0]
    assert [part in asked["before"] for part in ("answer in json", "hello", "hi")] == [True] * 3
    assert set(rows["outcome"]) <= {"wrong", "unparsable", "truncated", "right"}
    assert {"acc_x", "new_instruction", "fidelity"} <= set(metric_table(study)["metric"])


def test_seeds_and_a_later_arm(there, models, capfd):
    walk("Seeds, and an arm that comes later")
    assert "nca@0, nca@1: added to the finished study seeds" in capfd.readouterr().err
    study = Study.open("studies/seeds")
    runs = study.table("drift")[["arm", "seed"]].drop_duplicates()
    assert sorted(map(tuple, runs.itertuples(index=False))) == [
        ("base", 0),
        ("nca", 0),
        ("nca", 1),
        ("opd", 0),
        ("opd", 1),
    ]
    assert study.manifest["seeds"] == [0, 1]
    table = metric_table(study)
    over = table[table["seed"].isna() & (table["metric"] == "invariance")].set_index("arm")["interval"]
    assert over.to_dict() == {"base": "within", "nca": "across", "opd": "across"}
    assert study.manifest["arms"]["opd"]["seeds"]["1"]["beside"] == os.path.relpath(
        models / "opd-1", study.path.resolve()
    )
    assert len(study.table("cka_map").query("arm == 'nca' and map == 'base'"))
