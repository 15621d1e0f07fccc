"""Word classes: which of six kinds of thing does an everyday word name? For a real instruct model.

Mental model: an example is one word, and ``wordclass.yaml`` says in which class and in which split it is; no
word is in two of either. The prompt asks for the kind of thing without listing the classes: a small model then
often names one in passing ("This is a type of food"). SmolLM2-135M-Instruct was right less often, in both views,
when the question listed them. That partial competence is needed: a student that starts at zero gives no-context
anchoring nothing to anchor to. The context names the classes, in a system message and eight answered words that
belong to no split.
"""

from functools import cache

from cr_interp.tasks.base import SPLITS, Example
from cr_interp.tasks.language.labels import LabelTask, read_contexts, read_data

#: The question comes first: everything before the word is a prefix that all examples share, computed once.
PROMPT = "What kind of thing is this?\nWord: {word}"


@cache
def wordclass_task() -> LabelTask:
    data = read_data("wordclass.yaml")
    words = data["words"]
    return LabelTask(
        name="wordclass",
        labels=tuple(words),
        sources={
            split: {label: [[_example(word, label)] for word in words[label][split]] for label in words}
            for split in SPLITS
        },
        fixed_contexts=read_contexts(data["contexts"], PROMPT.replace("{word}", "{text}")),
        new_instruction=spells,
    )


def _example(word: str, label: str) -> Example:
    return Example(id=f"wordclass-{word.lower()}", prompt=PROMPT.format(word=word), answer=label)


def spells(example: Example, response: str) -> bool:
    """Tell whether the answer is the word's first letter, which the mismatched context asks for."""
    word = example.prompt.rpartition(" ")[2]
    return response.strip(" .*\"'\n").casefold() == word[0].casefold()
