"""What a study does not say: the sentences that stand beside its verdict, each tied to what was or was not measured."""

import pandas as pd

from cr_interp.report.study import keyless_sentences, unread_sentences
from cr_interp.study.analyses import ANALYSES
from cr_interp.study.study import Study
from cr_interp.tables.unread import unread_of
from cr_interp.vocabulary import CONTROLS


def limits(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the limits of a study whose metrics are ``table`` (``tables.metrics.metric_table``), a sentence each."""
    generations = study.table("generations")
    found = [_scope(study, generations), *keyless_sentences(study)]
    found += _seeds(table)
    if "cluster" in generations and generations["cluster"].nunique() < generations["example_id"].nunique():
        found.append(
            f"The {generations['example_id'].nunique()} examples are {generations['cluster'].nunique()} independent ones in "
            f"several forms; the intervals count these."
        )
    trained = table.loc[table["arm"] != "base", "arm"].nunique()
    if trained > 2:
        found.append(
            f"{trained} arms are compared one by one: the intervals are not adjusted for there being several."
        )
    asked = set(generations.loc[generations["view"] == "with_context", "control"])
    if missing := [name for name in CONTROLS if name not in asked]:
        found.append(
            f"Not given: a context that is {', '.join(missing)}. What is said of the exact one may be true of other texts too."
        )
    if "sample" in generations and generations["sample"].nunique() > 1:
        found.append("Answers were sampled: a part of every Harm is chance, however alike the views are.")
    engine = study.manifest.get("engine")
    if isinstance(engine, dict) and engine.get("kind") == "server":
        found.append(
            "The answers came from a server: which weights it holds, and what its template makes of a chat, is the server's word."
        )
    found += unread_sentences(unread_of(study), least=0.05)
    if study.has_table("drift"):
        found.append("That a state moves does not say that the answer flips because of it.")
    else:
        found.append("No states were read: how far they move is not known here.")
    if not any(study.has_table(each.table) for each in ANALYSES if each.command == "explain"):
        found.append("No analysis of mechanism was made (cr-interp explain): nothing here says why answers flip.")
    return found


def _scope(study: Study, generations: pd.DataFrame) -> str:
    task, model = study.manifest.get("task") or "one task", study.manifest.get("model") or "one model"
    n = generations["example_id"].nunique()
    return f"It is about {task}, this context and {model}: {n} examples. Other tasks, contexts and models may differ."


def _seeds(table: pd.DataFrame) -> list[str]:
    trained = table[table["arm"] != "base"]
    per_arm = trained[trained["seed"].notna()].groupby("arm")["seed"].nunique()
    if per_arm.empty:
        return []
    if per_arm.max() == 1:
        return ["One seed: training once more may give other numbers, and how far they would lie is not known."]
    fewest = int(per_arm.min())
    if fewest < 5:
        return [
            f"{fewest} {'seed' if fewest == 1 else 'seeds'} an arm: intervals over seeds are wide, and they should be."
        ]
    return []
