"""The verdict card and ``cr-interp table`` say the same numbers of every bundled study: as shipped, and as they are printed."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from cr_interp.cli import app
from cr_interp.study.searching import BUNDLED, studies_in
from cr_interp.study.study import Study
from cr_interp.tables.stored import SHIPPED

#: Row of the card → the metric and the context whose value it is; Harm on common prompts belongs to a pair of arms, so no arm's
#: row of the table has it.
PRINTED = {
    **{
        name: (name, "exact")
        for name in ("changed", "harm", "acc_x", "acc_xc", "fidelity", "invariance", "new_instruction")
    },
    "harm_irrelevant": ("harm", "irrelevant"),
}
EVERY = studies_in(BUNDLED) | {
    f"{suite.name}/{name}": path
    for suite in sorted(BUNDLED.iterdir())
    for name, path in studies_in(suite).items()
}


def printed(path, *more: str) -> dict[tuple[str, str], float]:
    done = CliRunner().invoke(app, ["table", str(path), "--json", *more])
    assert done.exit_code == 0, done.output
    return {
        (row["arm"], row["metric"]): row["estimate"] for row in json.loads(done.stdout) if row["seed"] is None
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_each_number_of_the_card_is_the_table_s(name):
    study = Study.open(EVERY[name])
    shipped = list((study.path / SHIPPED).glob("verdict_rows-*.parquet"))
    assert len(shipped) == 1
    card = pd.read_parquet(shipped[0])
    arms = ("nca", "opd") if (study.table("generations")["arm"] == "nca").any() else ("opd", "base")
    values = {"exact": printed(study.path)}
    if "harm_irrelevant" in set(card.loc[card["estimate"].notna(), "metric"]):
        values["irrelevant"] = printed(study.path, "--control", "irrelevant")
    checked = 0
    for row in card[card["metric"].isin(PRINTED) & card["estimate"].notna()].itertuples():
        metric, control = PRINTED[row.metric]
        for arm, value in zip(arms, (row.arm, row.baseline), strict=True):
            assert value == pytest.approx(values[control][arm, metric], abs=1e-12), (row.metric, arm)
            checked += 1
        assert row.estimate == pytest.approx(row.arm - row.baseline, abs=1e-12), row.metric
        assert row.low <= row.estimate <= row.high
    assert checked >= 4
