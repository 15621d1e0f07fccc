"""Compute what the workbench and ``cr-interp table`` ask first of each bundled example, and put it beside it.

``python docs/tools/computed.py``, after a bundled study was made again or after the code of a metric changed: what was
computed of the old study, or by the old code, is made again or removed, and the rest is kept. With ``--again`` everything is
computed. The same studies and code give the same bytes.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.queries import suite_state
from app.queries.state import Selection, arms_of, controls_of, seeds_of
from app.sidebar import default_pair
from cr_interp.study.searching import BUNDLED, studies_in
from cr_interp.study.study import Study
from cr_interp.tables.metrics import metric_table
from cr_interp.tables.stored import SHIPPED, shipping
from cr_interp.tables.suite import open_suite
from cr_interp.tables.unread import keyless, unread_of


def first_choice(path: Path) -> Selection:
    """Compute what the workbench shows of a study before anything is chosen."""
    study = Study.open(path)
    arms, seeds = arms_of(study), seeds_of(study)
    arm, baseline = (arms[place] for place in default_pair(arms))
    every = tuple(arms)
    return Selection(
        study,
        every,
        every,
        next(iter(controls_of(study)), "exact"),
        arm,
        baseline,
        all_seeds=tuple(seeds),
        seeds=tuple(seeds),
    )


def printed(study: Study) -> None:
    """Compute what ``cr-interp table`` prints of a study."""
    metric_table(study)
    unread_of(study)
    keyless(study)


def main(again: bool = False) -> None:
    for old in BUNDLED.rglob(SHIPPED) if again else ():
        shutil.rmtree(old)
    with shipping():
        for path in studies_in(BUNDLED).values():
            chosen = first_choice(path)
            chosen.verdict()
            chosen.metrics()
            chosen.differences()
            chosen.regimes()
            chosen.outcome_shares()
            chosen.case_counts()
            if chosen.study.has_table("token_drift"):
                chosen.flips()
            printed(chosen.study)
            print(path.name)
        for folder in BUNDLED.iterdir():
            for path in studies_in(folder).values():
                first_choice(path).verdict()
                printed(Study.open(path))
                print(f"{folder.name}/{path.name}")
            if studies_in(folder):
                mine = open_suite(folder)
                every = suite_state.there(mine).arms
                arm, baseline = (every[place] for place in default_pair(list(every)))
                suite_state.comparisons(mine, arm, baseline, "exact")
                suite_state.setting_rows(mine, tuple(dict.fromkeys(("base", baseline, arm))), "exact")
                suite_state.ablation_rows(mine, baseline, "exact")


if __name__ == "__main__":
    main(again="--again" in sys.argv[1:])
