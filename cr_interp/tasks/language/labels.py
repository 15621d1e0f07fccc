"""What the labelling tasks share: reading a label from a response, grading, balanced examples, contexts.

Mental model: a labelling task has a few *labels*, and for each split and label some *sources* (a phrase, a
word). A source belongs to one split only, so nothing that is tested was trained on. Each source gives one or
more examples: a word gives one, a phrase gives one for each sentence frame. The rest is data in a YAML file.

Grading rule. A response names a label if the label (or its plain plural) occurs in it as a word (``words.py``), in any casing
and whatever punctuation or markdown surrounds it. Exactly one label named: right or wrong, even if the response
was cut off afterwards. None or several named: ``truncated`` if it was cut off, else ``unparsable``. Negation is
not understood: "not positive" names ``positive``.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from cr_interp.errors import UserError, unknown
from cr_interp.tasks.base import SPLITS, CountTokens, Example, Outcome, Split
from cr_interp.tasks.lengths import FILLER, equal_length
from cr_interp.tasks.words import folded, stands_in
from cr_interp.views import Context

#: label -> for each source the examples made from it.
Sources = Mapping[str, Sequence[Sequence[Example]]]


def read_label(response: str, labels: Iterable[str]) -> str | None:
    """Read the one label that a response names, or None if it names none or several.

    >>> read_label("**Animal**.", ["animal", "food"])
    'animal'
    >>> read_label("Animals, I think.", ["animal", "food"])
    'animal'
    >>> read_label("animal or food", ["animal", "food"]) is None
    True
    """
    told = folded(response.replace("_", " "))  # underscores are markdown here, not letters
    named = [label for label in labels if any(stands_in(told, spelling) for spelling in spellings(label))]
    return named[0] if len(named) == 1 else None


def spellings(label: str) -> tuple[str, ...]:
    """Return the label and its plain plural.

    >>> spellings("country")
    ('country', 'countries')
    """
    one = folded(label)
    return one, f"{one[:-1]}ies" if re.search("[^aeiou]y$", one) else f"{one}s"


def grade_label(answer: str, response: str, truncated: bool, labels: Iterable[str]) -> Outcome:
    """Apply the grading rule above; never raises, whatever the response is."""
    found = read_label(response, labels)
    if found is None:
        return "truncated" if truncated else "unparsable"
    return "right" if found == answer else "wrong"


def few_shot(system: str, turns: Iterable[tuple[str, str]]) -> Context:
    """Make a system message followed by answered prompts."""
    messages = [{"role": "system", "content": system}]
    for prompt, answer in turns:
        messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Context(tuple(messages))


def balanced_order(sources: Sources, rng: random.Random) -> list[Example]:
    """Return every example once, such that each beginning of the list is balanced.

    Runs of as many examples as there are labels hold each label once, in random order; within a label no source comes a
    second time before all others came once. So the first n are balanced for every n, batches taken in order hardly differ in
    their labels, and the first n are also the beginning of the first n + 1.
    """
    columns = []
    for per_source in sources.values():
        shuffled = [rng.sample(list(examples), len(examples)) for examples in per_source]
        rng.shuffle(shuffled)
        rounds = max((len(examples) for examples in shuffled), default=0)
        columns.append([examples[i] for i in range(rounds) for examples in shuffled if i < len(examples)])
    ordered: list[Example] = []
    for i in range(max((len(column) for column in columns), default=0)):
        run = [column[i] for column in columns if i < len(column)]
        rng.shuffle(run)
        ordered += run
    return ordered


@dataclass(frozen=True)
class LabelTask:
    """A task whose answer is one of a few labels; fulfils :class:`cr_interp.tasks.base.Task`."""

    name: str
    labels: tuple[str, ...]
    sources: Mapping[Split, Sources]
    fixed_contexts: Mapping[str, Context]
    """``exact, paraphrase, mismatched`` as they are, ``irrelevant`` still to be lengthened."""
    max_new_tokens: int = 6
    new_instruction: Callable[[Example, str], bool] | None = None
    """What it means to obey the mismatched context."""

    def examples(self, split: Split, n: int | None = None, seed: int = 0) -> list[Example]:
        """See :func:`balanced_order` for what ``n`` examples are."""
        if split not in self.sources:
            raise unknown("split", split, SPLITS)
        ordered = balanced_order(self.sources[split], random.Random(f"{self.name} {split} {seed}"))
        if n is None:
            return ordered
        if not 0 <= n <= len(ordered):
            raise UserError(
                f"Asked for {n} examples of the {split} split of task '{self.name}', which has {len(ordered)} "
                f"distinct ones. Ask for 0 to {len(ordered)}."
            )
        return ordered[:n]

    def contexts(self, count_tokens: CountTokens) -> dict[str, Context]:
        fixed = dict(self.fixed_contexts)
        fixed["irrelevant"] = equal_length(
            fixed["irrelevant"], count_tokens(fixed["exact"]), FILLER, count_tokens
        )
        return fixed

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        return grade_label(example.answer, response, truncated, self.labels)

    def obeys(self, example: Example, response: str) -> bool:
        """Tell whether the response answers the mismatched context's question; see :attr:`new_instruction`."""
        return self.new_instruction is not None and self.new_instruction(example, response)


def read_data(file_name: str) -> dict[str, Any]:
    """Read a data file of this package. Only safe YAML: reading never executes anything."""
    return yaml.safe_load(files("cr_interp.tasks.language").joinpath(file_name).read_text(encoding="utf-8"))


def read_contexts(data: Mapping[str, Any], prompt: str) -> dict[str, Context]:
    """Read the contexts of a data file: a system message and turns ``[text, answer]``.

    The text of a turn goes into the task's own prompt, or into the ``prompt`` that the context gives, where its place is
    ``{text}``.
    """
    contexts = {}
    for name, given in data.items():
        template = given.get("prompt", prompt)
        turns = [(template.format(text=text), answer) for text, answer in given["turns"]]
        contexts[name] = few_shot(given["system"], turns)
    return contexts
