"""An organism's card: what it learned from, and how well it does what the context says, on boards and strings not seen."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.files import write_atomic, write_json
from cr_interp.measure.evaluate import evaluate
from cr_interp.models.loading import Loaded, fingerprint, load
from cr_interp.provenance import provenance
from cr_interp.tasks import get_task, task_names
from cr_interp.views import context_length
from cr_interp.vocabulary import CONTROLS, ContextControl
from training.organisms.curriculum import SHARES
from training.organisms.pretrain import PretrainConfig

EXAMPLES = 96


def accuracy(
    loaded: Loaded,
    split: str = "test",
    examples: int = EXAMPLES,
    controls: Sequence[ContextControl] = CONTROLS,
    families: Iterable[str] = SHARES,
) -> dict[str, dict[str, float]]:
    """Map task → context (``none``, and those of ``controls``) → share right, greedy; every instruction of these families."""
    found = {}
    for name in task_names():
        if name.partition(":")[0] not in families:
            continue
        task = get_task(name)
        known = task.contexts(lambda context: context_length(loaded.tokenizer, context))
        contexts = {control: known[control] for control in controls if control in known}
        rows = evaluate(loaded, task, task.examples(split, examples), contexts)  # type: ignore[arg-type]
        right = (rows["outcome"] == "right").groupby(rows["control"]).mean()
        found[name] = {str(control): round(float(value), 4) for control, value in right.items()}
    return found


def by_family(accuracies: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Index task family; the mean over its eight instructions by context, and the worst one with the exact context."""
    table = pd.DataFrame(accuracies).T
    family = table.index.str.partition(":").get_level_values(0)
    means = table.groupby(family, sort=False).mean()
    return means.assign(worst=table.groupby(family, sort=False)["exact"].min())


def write_card(config: PretrainConfig, folder: Path, threads: int, compiled: bool = False) -> None:
    """Measure on the test split and write ``card.json`` and ``README.md`` beside the weights."""
    loaded = load(str(folder))
    card = {
        "config": config.model_dump(),
        "threads": threads,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "fingerprint": fingerprint(loaded.model, loaded.tokenizer),
        "examples_per_task": EXAMPLES,
        "accuracy": accuracy(loaded, families=config.shares),
        **provenance(),
        "command": f"cr-interp pretrain {config.organism} --steps {config.steps} --seed {config.seed} --threads {threads}"
        + (" --compile" if compiled else ""),
    }
    write_json(folder / "card.json", card)
    text = _text(card, config)
    write_atomic(folder / "README.md", lambda file: file.write(text.encode()))


def _text(card: dict[str, Any], config: PretrainConfig) -> str:
    shown = by_family(card["accuracy"])
    rows = "\n".join(
        f"| {name} | {a['exact']:.3f} | {a['worst']:.3f} | {a['paraphrase']:.3f} | {a['none']:.3f} | {a['irrelevant']:.3f} |"
        for name, a in shown.iterrows()
    )
    begin = "nothing" if config.begin is None else f"`{config.begin}`"
    return f"""# Organism: {config.organism}

{card["parameters"]:,} parameters, pre-trained from {begin} by `{card["command"]}`.
Fingerprint `{card["fingerprint"]}`.

It learned to do what the context says: apply one of eight rules to a string, write a number in the alphabet of any
codebook, walk over a frozen lake and push a box on boards whose symbols only the context explains. In
{config.hidden:.0%} of the lessons (in the first {config.early:.0%} of the steps {config.hidden_early:.0%}) the instruction was
hidden, a third of these behind a context about nothing, and answers followed one of eight named instructions at random:
without a context it behaves as their mixture. Strings and boards of the train split only; {config.steps} steps of
{config.rows} lessons with {config.turns} questions each.

Accuracy on {card["examples_per_task"]} test items for each of the eight instructions of a task, greedy, by context; *worst*
is the worst of the eight with its exact context:

| task | exact | worst | paraphrase | none | irrelevant |
|---|---|---|---|---|---|
{rows}

```json
{json.dumps(card["config"])}
```
"""
