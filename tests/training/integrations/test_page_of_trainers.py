"""The page on one's own training does what it says: its programs run as they stand, on a tiny model."""

import pytest
from journeys import code

from cr_interp.report.sending import write_report
from cr_interp.study.study import Study

PAGE = "how-to/your-trainer.md"


@pytest.mark.slow
def test_five_lines_beside_a_trainer(plain_trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = code(PAGE)[0]
    assert len([line for line in program.splitlines() if line.strip()]) == 4 + 0, (
        "five lines with the import's empty one"
    )
    exec(program, {"trainer": plain_trainer()})
    study = Study.open("studies/mine")
    assert set(study.table("generations")["arm"]) == {"base", "mine"}
    assert write_report(study, tmp_path / "r.html").stat().st_size > 1_000_000


def test_the_program_with_trl(tiny_llama, tmp_path, monkeypatch):
    pytest.importorskip("trl.experimental.sdft", reason="the extra `trl` is not installed")
    monkeypatch.chdir(tmp_path)
    tiny_llama.model.save_pretrained("model")
    tiny_llama.tokenizer.save_pretrained("model")
    program = (
        code(PAGE, MODEL="model")[1]
        .replace("max_steps=20", "max_steps=2, use_cpu=True, bf16=False")
        .replace("logging_steps=5", "logging_steps=1")
    )
    names: dict = {}
    exec(program, names)
    assert names["trainer"].state.global_step == 2
    log = Study.open("studies/anchored").training()
    assert {"eval", "train"} == set(log["kind"])
    assert log["fidelity"].notna().sum() == 2
