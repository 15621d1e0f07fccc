"""The rules of choice on curves that were drawn by hand, and the preregistration as a file."""

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cr_interp.errors import UserError
from cr_interp.tasks import get_task
from training.studies.preregistration import FOLDER, Preregistration, load_preregistration
from training.studies.screening import (
    best_form,
    choose,
    chosen_rates,
    eligibility,
    is_settled,
    plateaus,
    sentinels,
)


@pytest.fixture(scope="module")
def plan():
    return load_preregistration("suite-2")


def changed(plan, **sections):
    """The plan with these keys of its sections set."""
    data = plan.model_dump(mode="json")
    for section, values in sections.items():
        data[section] |= values
    return Preregistration.model_validate(data)


def curves(setting, rate, values, seeds=(100, 101)):
    return pd.DataFrame(
        [(setting, rate, seed, 20 * i, value) for seed in seeds for i, value in enumerate(values)],
        columns=["setting", "rate", "seed", "step", "acc_x"],
    )


def test_of_rates_within_a_point_the_one_that_is_there_first_and_never_the_lowest_for_being_low(plan):
    slow = [0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92]
    fast = [0, 0.8, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92, 0.92]
    bad = [0, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    grid = plateaus(
        pd.concat([curves("a", 3e-4, slow), curves("a", 1e-3, fast), curves("a", 3e-3, bad)]), plan.screening
    )
    at = grid.set_index("rate")
    assert at.loc[1e-3, "steps"] == 140  # mean of 100..140 against that of 40..80
    assert at["acc_x"].round(6).tolist() == [0.92, 0.92, 0.6]
    assert at["reached"].all()
    taken = chosen_rates(grid, plan.screening).iloc[0]
    assert (taken["rate"], taken["train_steps"]) == (1e-3, 210)


@pytest.mark.parametrize(("of_equal", "rate"), [("lowest", 3e-4), ("highest", 3e-3)])
def test_of_rates_that_need_as_few_steps_the_file_says_which(of_equal, rate, plan):
    flat = [0, *[0.9] * 12]
    rule = changed(plan, screening={"of_equal": of_equal}).screening
    grid = plateaus(pd.concat([curves("a", each, flat) for each in (3e-4, 1e-3, 3e-3)]), rule)
    assert set(grid["steps"]) == {120}
    assert chosen_rates(grid, rule).iloc[0]["rate"] == rate
    # The first suite's rule took the gentlest wherever rates were equal.
    assert plan.screening.of_equal == "highest"


def test_a_curve_that_never_flattens_gets_the_cap(plan):
    grid = plateaus(curves("a", 1e-3, [i / 31 for i in range(31)]), plan.screening)
    assert grid.iloc[0]["steps"] == 600
    assert not grid.iloc[0]["reached"]


@pytest.mark.parametrize(
    ("acc_x", "harm", "irrelevant", "eligible"),
    [
        (0.95, 0.20, 0.02, True),
        (0.89, 0.20, 0.02, False),  # not internalised: teacher 1.0
        (0.95, 0.09, 0.00, False),  # hardly harmed
        (0.95, 0.20, 0.16, False),  # any context harms as much
    ],
)
def test_a_setting_carries_the_claim_s_premise_if_all_three_hold(acc_x, harm, irrelevant, eligible, plan):
    rows = pd.DataFrame(
        [("a", 1e-3, seed, acc_x, harm, irrelevant, 1.0) for seed in (100, 101)],
        columns=["setting", "rate", "seed", "acc_x", "harm", "harm_irrelevant", "teacher"],
    )
    found = eligibility(rows, plan.eligible)
    assert found["eligible"].tolist() == [eligible]


@pytest.mark.slow
@settings(deadline=None)
@given(st.sets(st.integers(0, 65), min_size=0, max_size=40))
def test_a_choice_keeps_to_its_bounds_and_to_the_order_of_the_hash(numbers):
    plan = load_preregistration("suite-2")
    every = list(plan.settings())
    eligible = [every[i % len(every)] for i in sorted({i % len(every) for i in numbers})]
    taken = choose(eligible, plan)
    assert taken == choose(list(reversed(eligible)), plan)
    assert set(taken) <= set(eligible)
    tasks = [plan.parts(name)[1].partition(":")[0] for name in taken]
    assert all(tasks.count(task) <= 5 for task in tasks)
    assert len(taken) <= 12
    games = [name for name in eligible if plan.parts(name)[0].games]
    kinds = [plan.parts(name)[1].partition(":")[0] for name in eligible]
    possible = sum(min(5, kinds.count(kind)) for kind in set(kinds))
    assert len(taken) == min(12, possible)  # as many as there can be: never padded, never short
    assert sum(plan.parts(name)[0].games for name in taken) >= min(2, len(games))


@settings(deadline=None, max_examples=25)
@given(st.sets(st.integers(0, 73)), st.sampled_from([(12, 3, 2, 5), (6, 3, 2, 3), (4, 2, 3, 2), (3, 3, 3, 3)]))
def test_what_decides_the_choice_decides_it_whatever_comes_after(numbers, bounds):
    """Eligible are any of the 74: the choice from the shortest settled beginning of the order is the choice from all."""
    n, families, games, of_one = bounds
    whole = load_preregistration("suite-2")
    plan = changed(whole, choice={"settings": n, "families": families, "games": games, "of_one_task": of_one})
    in_order = sorted(plan.settings(), key=plan.order)
    eligible = [in_order[i] for i in sorted(numbers)]
    for screened in range(len(in_order) + 1):
        taken = choose([name for name in eligible if name in in_order[:screened]], plan)
        if is_settled(taken, plan.sentinels.without_harm, plan):
            assert taken == choose(eligible, plan)
            break
    assert not is_settled(taken, plan.sentinels.without_harm - 1, plan)


def test_places_are_kept_for_games_that_come_late_in_the_order(plan):
    small = changed(plan, choice={"settings": 2, "games": 1, "families": 1})
    words = [name for name in plan.settings() if not plan.parts(name)[0].games]
    game = next(name for name in plan.settings() if plan.parts(name)[0].games)
    assert game in choose([*words, game], small)
    assert len(choose([*words, game], small)) == 2


def test_the_file_of_the_second_suite_says_what_it_should(plan):
    groups = plan.settings()
    assert len(groups) == len(set(groups)) == 74
    config = plan.screened("rules-shift-qwen3", 1e-3)
    assert (config.task, config.arms, config.seeds) == ("rules:shift", ("opd",), (100, 101, 102))
    assert config.evaluation.split == "validation"
    assert config.training.steps == 600
    assert plan.screened("games-cross-sokoban2-a-qwen3", 3e-4).teacher == "builtin:organism-qwen3-large"
    short = plan.screened("smollm2-sentiment-fresh-smollm2-135m-instruct", 1e-5)
    assert (short.training.batch_size, short.training.eval_every, short.evaluation.examples) == (16, 10, 64)
    long = plan.screened("smollm2-explained-fresh-smollm2-135m-instruct", 2e-5)
    assert (long.training.bf16, long.training.eval_every, long.training.eval_examples) == (True, 5, 32)
    assert (config.training.bf16, config.training.eval_every, config.training.eval_examples) == (False, 20, 128)


def test_every_setting_has_as_many_validation_items_as_it_is_asked(plan):
    """Of each task one: who is asked for more than there are, is told so after hours."""
    fixed = changed(plan, confirmation={"adaptive": ["KL(q_x || f)"]})
    of_task = {plan.parts(name)[1].partition(":")[0]: name for name in plan.settings()}
    for task, setting in of_task.items():
        made = (fixed.screened(setting, 1e-3), fixed.tried(setting, 1e-3, 40), fixed.confirmed(setting, 1e-3, 40))
        asked = {config.training.eval_examples for config in made}
        asked |= {config.evaluation.examples for config in made if config.evaluation.split == "validation"}
        for n in asked:
            assert len(get_task(plan.parts(setting)[1]).examples("validation", n)) == n, task


def found(**columns):
    """A choice, a row a setting, in the order of the hash."""
    table = pd.DataFrame(columns)
    return table.assign(order=[f"{i:02}" for i in range(len(table))], rate=1e-3, steps=80, train_steps=120)


def test_sentinels_are_settings_without_harm_and_chosen_ones_stopped_early(plan):
    table = found(
        setting=["a", "b", "c", "d", "e"],
        internalised=[True, True, False, True, True],
        harm=[0.2, 0.01, 0.0, 0.05, 0.3],
        chosen=[True, False, False, False, True],
    )
    beside = sentinels(table, plan)
    assert beside[["name", "kind", "train_steps"]].values.tolist() == [
        ["b", "harmless", 120],  # c is without Harm as well, but has not internalised anything
        ["early-a", "early", 20],
        ["early-e", "early", 20],
    ]


def tried(**values):
    """(kind, arm, metric) → estimate, as rows of one setting."""
    return pd.DataFrame(
        [(*key.split("__"), value) for key, value in values.items()],
        columns=["kind", "arm", "metric", "estimate"],
    )


def test_a_form_must_keep_both_bounds_and_then_the_one_that_still_listens_is_taken(plan):
    rows = {
        "harmed__nca__harm": 0.02,
        "early__opd__acc_xc": 0.80,
        "harmed__gate__harm": 0.025,
        "early__gate__acc_xc": 0.79,
        "harmed__gate__new_instruction": 0.10,
        "harmed__mix__harm": 0.020,
        "early__mix__acc_xc": 0.81,
        "harmed__mix__new_instruction": 0.30,
        "harmed__sharp__harm": 0.20,
        "early__sharp__acc_xc": 0.90,
        "harmed__sharp__new_instruction": 0.90,
    }
    forms = best_form(tried(**rows), plan.adaptive, "opd")
    assert forms["form"].tolist() == ["mix", "gate", "sharp"]
    assert forms["misses"].round(6).tolist() == [0, 0, 0.17]
    # Where none keeps both, the nearest.
    forms = best_form(
        tried(**{**rows, "early__mix__acc_xc": 0.5, "early__gate__acc_xc": 0.7}), plan.adaptive, "opd"
    )
    assert forms["form"].tolist() == ["gate", "sharp", "mix"]


def test_nothing_is_confirmed_before_the_adaptive_arm_is_fixed(plan):
    with pytest.raises(UserError, match="nca_adaptive"):
        plan.confirmed("rules-shift-qwen3", 1e-3, 150)
    terms = ["KL(q_x || f)", "0.5 * near(1) * KL(sg[q_x] || q_c)"]
    config = changed(plan, confirmation={"adaptive": terms}).confirmed("rules-shift-qwen3", 1e-3, 150)
    assert config.arms == ("opd", "nca", "dual_opd", "nca_adaptive")
    assert config.seeds == tuple(range(200, 210))
    assert (config.training.steps, config.evaluation.split, config.evaluation.seed) == (150, "test", 2)


def test_the_digest_is_what_it_says_not_how_it_is_written(plan, tmp_path):
    text = (FOLDER / "suite-2.yaml").read_text()
    (tmp_path / "a.yaml").write_text("# another comment\n" + text)
    (tmp_path / "b.yaml").write_text(text.replace("cap: 600", "cap: 601"))
    assert load_preregistration(str(tmp_path / "a.yaml")).digest == plan.digest
    assert load_preregistration(str(tmp_path / "b.yaml")).digest != plan.digest


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cap: 600", "cap: 0", "cap"),
        ("window: 3", "window: 3, extra: 1", "extra"),
        ('nca: ["KL(q_x || f)"', 'nca: ["KL(q_x | f)"', "not a term"),
        ("group: codebook", "group: rules", ""),
        ("adaptive: null", 'adaptive: ["KL(q_x || q_x)"]', "itself"),
    ],
)
def test_a_preregistration_that_cannot_be_run_is_refused(old, new, said, tmp_path):
    text = (FOLDER / "suite-2.yaml").read_text()
    assert old in text
    (tmp_path / "bad.yaml").write_text(text.replace(old, new))
    if not said:  # other tasks under one group's name are no clash
        load_preregistration(str(tmp_path / "bad.yaml"))
        return
    with pytest.raises(UserError, match=said):
        load_preregistration(str(tmp_path / "bad.yaml"))


def test_two_candidates_of_one_name_are_refused(tmp_path):
    text = (
        (FOLDER / "suite-2.yaml")
        .read_text()
        .replace('"rules:copy", "rules:reverse"', '"rules:copy", "rules:copy"')
    )
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(UserError, match="rules-copy-llama"):
        load_preregistration(str(tmp_path / "twice.yaml"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rates": [-1.0]}, r"rates\.0"),
        ({"rates": [1e308]}, r"rates\.0"),
        ({"rates": [1e-4, 1.0000001e-4]}, "both called"),
        ({"batch_size": 0}, "batch_size"),
        ({"tasks": ["rules:" + "x" * 300]}, "bytes"),
        ({"tasks": [f"t{n}" for n in range(300)], "models": [f"m{n}" for n in range(300)]}, "names 270000 runs"),
        ({"seeds": 10**30}, "seeds"),
    ],
)
def test_a_candidate_that_cannot_be_run_is_said_before_anything_is(changes, said, tmp_path):
    data = yaml.safe_load((FOLDER / "suite-2.yaml").read_text())
    data["candidates"] = [{**data["candidates"][0], **changes}]
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=said):
        load_preregistration(str(tmp_path / "bad.yaml"))
