"""A preregistration is screened and confirmed at toy size, and refuses to go on as another one."""

import shutil

import pandas as pd
import pytest
import yaml

from cr_interp.errors import UserError
from cr_interp.measure.drawn import drawn
from cr_interp.study.study import Study
from cr_interp.tasks import get_task
from training.studies.choice import read_choice
from training.studies.preregistered import choose_form, confirm, digest_of_all_items, note, screen
from training.studies.preregistration import FOLDER, load_preregistration


def small(tmp_path, **changes):
    """Two candidates, one rate, four steps; everybody is eligible."""
    data = yaml.safe_load((FOLDER / "suite-2.yaml").read_text())
    data["name"] = "small"
    data["screening"] |= {"seeds": [100], "items": 8, "every": 1, "cap": 4, "plateau": {"window": 1, "gain": 1}}
    data["eligible"] = {"of_teacher": 1e-9, "harm": 0, "above_irrelevant": 0}
    data["confirmation"] |= {
        "seeds": [200],
        "items": 8,
        "items_sha256": "",
        "adaptive": ["KL(q_x || f)", "0.5 * near(1) * KL(sg[q_x] || q_c)"],
    }
    data["adaptive"] |= {"settings": 1, "forms": {"gate": ["KL(q_x || f)", "0.5 * near(1) * KL(sg[q_x] || q_c)"]}}
    data["sentinels"] |= {"without_harm": 1, "stopped_early": 1}
    data["candidates"] = [
        {
            "group": "rules",
            "tasks": ["rules:shift", "rules:swap"],
            "models": ["builtin:organism-rules"],
            "rates": [3e-4],
            "batch_size": 4,
        }
    ]
    for section, values in changes.items():
        data[section] |= values
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_preregistration(str(path))


def test_a_file_that_changed_after_the_first_run_is_another_experiment(tmp_path):
    note(small(tmp_path), tmp_path / "out")
    note(small(tmp_path), tmp_path / "out")
    with pytest.raises(UserError, match=r"begun with another preregistration: eligible changed since"):
        note(small(tmp_path, eligible={"harm": 0.2}), tmp_path / "out")


def test_nothing_is_confirmed_before_every_candidate_has_been_screened(tmp_path):
    with pytest.raises(UserError, match="2 of 2 candidates have not been screened"):
        confirm(small(tmp_path), tmp_path / "out")


def test_screening_goes_by_the_order_and_ends_when_the_choice_is_settled(tmp_path, monkeypatch):
    """What comes after is not trained; a gap in the order settles nothing."""
    plan = load_preregistration("suite-2")
    plan = plan.model_copy(
        update={"choice": plan.choice.model_copy(update={"settings": 3, "games": 0, "families": 2})}
    )
    in_order = sorted(plan.settings(), key=plan.order)
    trained: list[str] = []

    def screened(plan, out, some, workers):
        trained.extend(some)
        places = [in_order.index(name) for name in some]
        about = {"setting": some, "rate": 1e-3, "steps": 80, "train_steps": 120, "internalised": True}
        about |= {"harm": [0.0 if i % 2 else 0.2 for i in places], "eligible": [i % 2 == 0 for i in places]}
        return *[pd.DataFrame({"setting": some})] * 2, pd.DataFrame(about)

    monkeypatch.setattr("training.studies.preregistered._screened", screened)
    monkeypatch.setattr("training.studies.preregistered.check_teachers", lambda _: None)
    _, choice = screen(plan, tmp_path, workers=2)
    assert trained == choice["setting"].tolist() == in_order[:6]
    chosen = [row.setting for row in read_choice(tmp_path, plan) if row.chosen]
    assert chosen == [in_order[0], in_order[2], in_order[4]]
    trained.clear()
    screen(plan, tmp_path, in_order[:5] + in_order[6:7], workers=2)
    assert trained == in_order[:5] + in_order[6:7]
    with pytest.raises(UserError, match="do not decide the choice"):
        read_choice(tmp_path, plan)


HEAD = "setting,rate,train_steps,chosen\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks the columns"),
        ("\xff\x00", "not UTF-8"),
        ("a,b\n1,2\n", "lacks the columns setting"),
        (HEAD + "rules-shift,0.0003,4\n", "line 2 has 3 cells"),
        (HEAD + "rules-shift,x,4,True\n", "line 2: 'rate'"),
        (HEAD + "rules-shift,-1,4,True\n", "line 2: 'rate'"),
        (HEAD + "rules-shift,nan,4,True\n", "line 2: 'rate'"),
        (HEAD + "rules-shift,,4,True\n", "line 2: 'rate'"),
        (HEAD + "rules-shift,0.0003,1e30,True\n", "line 2: 'train_steps'"),
        (HEAD + "rules-shift,0.0003,4,perhaps\n", "line 2: 'chosen'"),
        (HEAD + "rules-shift,0.0003,4,no\nrules-swap,0.0003,4,False\n", "None of the 2 candidates is eligible"),
        (HEAD + "rules-shift,0.0003,4,True\nrules-shift,0.0003,4,True\n", "names a setting twice"),
        (HEAD + "rules-shift,0.0003,4,True\nother,0.0003,4,True\n", "setting 'other'"),
    ],
)
def test_a_choice_that_screening_has_not_written_is_refused(text, said, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "choice.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=said):
        confirm(small(tmp_path), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.usefixtures("warm_jobs")
def test_screened_chosen_and_confirmed(tmp_path, monkeypatch):
    plan, out = small(tmp_path), tmp_path / "out"
    grid, choice = screen(plan, out, workers=2)
    assert grid["setting"].tolist() == ["rules-shift", "rules-swap"]
    assert set(choice["train_steps"]) <= {2, 3, 5, 6}  # 1.5 times 1 to 4, rounded up
    # The means of the choice are those of the studies' own validation answers.
    for row in choice.itertuples():
        rows = Study.open(out / "screening" / f"{row.setting}-lr0.0003").table("generations")
        assert set(rows["split"]) == {"validation"}
        mine = rows[(rows["arm"] == "opd") & (rows["view"] == "no_context")]
        assert row.acc_x == pytest.approx((mine["outcome"] == "right").mean())
    assert len(choice) == len(pd.read_csv(out / "choice.csv")) == 2
    trained = {path: path.stat().st_mtime_ns for path in (out / "screening").rglob("*.safetensors")}
    screen(plan, out, workers=2)  # typed again: nothing is trained anew
    assert trained == {path: path.stat().st_mtime_ns for path in (out / "screening").rglob("*.safetensors")}
    here = screen(plan, tmp_path / "here", workers=1)  # one run after the other, in this process
    pd.testing.assert_frame_equal(here[0], grid)
    pd.testing.assert_frame_equal(here[1], choice)
    shutil.rmtree(out / "screening")  # its studies are not needed any more
    again = screen(plan, out, workers=2)
    assert not (out / "screening").exists()
    pd.testing.assert_frame_equal(again[0], grid)
    pd.testing.assert_frame_equal(again[1], choice)
    table = pd.read_csv(out / "choice.csv").assign(chosen=[True, False])
    table.to_csv(out / "choice.csv", index=False)
    name = table["setting"][0]
    early = pd.DataFrame(
        [(f"early-{name}", name, "early", 3e-4, 1)], columns=pd.read_csv(out / "sentinels.csv").columns
    )
    early.to_csv(out / "sentinels.csv", index=False)
    # The forms are compared on the screening seed and on validation items.
    forms = choose_form(plan, out, workers=2)
    assert forms["form"].tolist() == ["gate"]
    for folder in (name, f"early-{name}"):
        tried = Study.open(out / "adaptive" / folder)
        assert set(tried.manifest["arms"]) == {"opd", "nca", "gate"}
        assert (tried.manifest["seeds"], tried.manifest["evaluation"]["split"]) == ([100], "validation")
    assert confirm(plan, out, workers=2) == [table["setting"][0]]
    study = Study.open(out / table["setting"][0])
    assert set(study.manifest["arms"]) == {"opd", "nca", "dual_opd", "nca_adaptive"}
    assert study.manifest["arms"]["nca_adaptive"]["terms"][1] == "0.5 * near(1) * KL(sg[q_x] || q_c)"
    assert study.manifest["evaluation"]["seed"] == 2
    beside = Study.open(out / "sentinels" / f"early-{name}")
    assert beside.manifest["training"]["steps"] == 1
    # The terms were noted when the confirmation began, and cannot be changed after.
    with pytest.raises(UserError, match="confirmation changed since"):
        confirm(small(tmp_path, confirmation={"adaptive": ["KL(q_x || f)"]}), out)


@pytest.mark.slow
def test_the_items_are_those_that_were_committed_to(tmp_path):
    plan = load_preregistration("suite-2")
    assert digest_of_all_items(plan) == plan.confirmation.items_sha256
    screened = pd.DataFrame(
        {"setting": ["rules-shift", "rules-swap"], "chosen": True, "rate": 3e-4, "train_steps": 2}
    )
    (tmp_path / "out").mkdir()
    screened.to_csv(tmp_path / "out/choice.csv", index=False)
    with pytest.raises(UserError, match="items are not those that small commits to"):
        confirm(small(tmp_path, confirmation={"items_sha256": "0" * 64}), tmp_path / "out")


def test_no_item_of_the_confirmation_has_been_published():
    plan = load_preregistration("suite-2")
    for name in ("rules-shift-qwen3", "codebook-a-llama", "organism-rules-rules-swap"):
        _, task, _ = plan.parts(name)
        asked = plan.test_items(name)
        items = drawn(get_task(task), asked)
        seen = {each.cluster for each in get_task(task).examples("test", 256, 0)}
        assert len(items) == 256
        assert not seen & {each.cluster for each in items}
