"""An organism's card: what it learned from, and how well it follows each rule with and without the context."""

import json
from pathlib import Path

from cr_interp.evaluation import evaluate
from cr_interp.models import fingerprint, load
from cr_interp.provenance import provenance
from cr_interp.study import write_atomic, write_json
from cr_interp.tasks.rules import LENGTHS, LETTERS, RULES, rules_task
from cr_interp.views import context_length
from training.pretrain import PretrainConfig

EXAMPLES = 256


def write_card(config: PretrainConfig, folder: Path, threads: int) -> None:
    """Measure on the test split and write ``card.json`` and ``README.md`` beside the weights."""
    loaded = load(str(folder))
    accuracy = {}
    for rule in RULES:
        task = rules_task(rule)
        contexts = task.contexts(lambda context: context_length(loaded.tokenizer, context))
        rows = evaluate(loaded, task, task.examples("test", EXAMPLES), contexts)
        right = (rows["outcome"] == "right").groupby(rows["control"]).mean()
        accuracy[rule] = {name: round(float(value), 4) for name, value in right.items()}
    card = {
        "config": config.model_dump(),
        "threads": threads,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "fingerprint": fingerprint(loaded.model, loaded.tokenizer),
        "examples_per_rule": EXAMPLES,
        "accuracy": accuracy,
        **provenance(),
        "command": f"cr-interp pretrain {config.family} --steps {config.steps} --seed {config.seed} --threads {threads}",
    }
    write_json(folder / "card.json", card)
    text = _text(card, config)
    write_atomic(folder / "README.md", lambda file: file.write(text.encode()))


def _text(card: dict, config: PretrainConfig) -> str:
    rows = "\n".join(
        f"| {rule} | {a['exact']:.3f} | {a['paraphrase']:.3f} | {a['none']:.3f} | {a['irrelevant']:.3f} |"
        for rule, a in card["accuracy"].items()
    )
    return f"""# Organism: {config.family}

{card["parameters"]:,} parameters, pre-trained from nothing by `cr-interp pretrain {config.family} --steps {config.steps}
--seed {config.seed}` with {card["threads"]} threads. Fingerprint `{card["fingerprint"]}`.

Data: strings of {LENGTHS.start} to {LENGTHS.stop - 1} letters of `{LETTERS}` (train strings only) and one of
{len(RULES)} rules, named by the system prompt in one of three wordings; in {config.hidden:.0%} of the examples the rule is
hidden ({config.irrelevant:.0%} behind an irrelevant system prompt, the rest without one), so that without a context the
organism behaves as a mixture of the rules. {config.steps} steps of {config.batch_size} sequences, AdamW, learning rate
{config.lr:g} with warm-up and cosine, seed {config.seed}; the loss falls on the answers only.

Accuracy on {card["examples_per_rule"]} test strings per rule, greedy, by system prompt:

| rule | exact | paraphrase | none | irrelevant |
|---|---|---|---|---|
{rows}

```json
{json.dumps(card["config"])}
```
"""
