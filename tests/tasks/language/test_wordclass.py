"""The word-class task: nothing tested was trained on, classes are balanced, controls are what they claim."""

from collections import Counter

import pytest

from cr_interp.errors import UserError
from cr_interp.tasks.base import SPLITS
from cr_interp.tasks.language.labels import read_data
from cr_interp.tasks.language.wordclass import PROMPT, wordclass_task
from cr_interp.views import Context

WORDS = read_data("wordclass.yaml")["words"]
TASK = wordclass_task()
ALL_WORDS = [word.lower() for by_split in WORDS.values() for words in by_split.values() for word in words]
QUESTION = PROMPT.removesuffix("{word}")


def count_words(context: Context) -> int:
    return sum(3 + len(message["content"].split()) for message in context.messages)


def words_of(split) -> set[str]:
    return {example.prompt.removeprefix(QUESTION).lower() for example in TASK.examples(split)}


def test_every_word_is_in_one_class_and_one_split():
    assert [word for word, times in Counter(ALL_WORDS).items() if times > 1] == []
    assert sum(len(words_of(split)) for split in SPLITS) == len(ALL_WORDS)
    assert set.union(*(words_of(split) for split in SPLITS)) == set(ALL_WORDS)


def test_promised_numbers():
    assert len(ALL_WORDS) >= 330
    assert len(TASK.labels) >= 6
    assert len(words_of("test")) >= 200


def test_words_are_single_strings_and_never_a_label():
    assert all(word.isalpha() for word in ALL_WORDS)  # also: YAML read none as a truth value or a number
    assert not set(TASK.labels) & set(ALL_WORDS)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("n", [1, 8, 77, None])
def test_balanced_and_distinct(split, n):
    examples = TASK.examples(split, n, seed=5)
    assert len({e.id for e in examples}) == len({e.prompt for e in examples}) == len(examples)
    classes = Counter({label: 0 for label in TASK.labels})
    classes.update(e.answer for e in examples)
    assert max(classes.values()) - min(classes.values()) <= 1


def test_order_is_fixed_by_the_seed():
    assert TASK.examples("train", 60, seed=1) == TASK.examples("train", 60, seed=1)
    assert TASK.examples("train", 60, seed=1) != TASK.examples("train", 60, seed=2)


def test_more_than_there_are_is_refused():
    with pytest.raises(UserError, match="Asked for 241 examples of the test split"):
        TASK.examples("test", 241)
    with pytest.raises(UserError, match="Asked for -1"):
        TASK.examples("test", -1)


def test_contexts_are_balanced_and_of_no_split():
    contexts = TASK.contexts(count_words)
    assert list(contexts) == ["exact", "paraphrase", "mismatched", "irrelevant"]
    shown = []
    for context in contexts.values():
        assert [m["role"] for m in context.messages] == ["system"] + 8 * ["user", "assistant"]
        shown += [m["content"].rsplit("\n", 1)[1].split(": ")[1].lower() for m in context.messages[1::2]]
    assert len(set(shown)) == 32
    assert not set(shown) & set(ALL_WORDS)
    for name in ("exact", "paraphrase"):
        answers = Counter(m["content"] for m in contexts[name].messages[2::2])
        assert set(answers) == set(TASK.labels)
        assert max(answers.values()) <= 2
        assert all(label in contexts[name].messages[0]["content"] for label in TASK.labels)
        assert all(m["content"].startswith(QUESTION) for m in contexts[name].messages[1::2])
    assert not {
        m["content"] for name in ("mismatched", "irrelevant") for m in contexts[name].messages[2::2]
    } & set(TASK.labels)


def test_the_irrelevant_context_is_as_long_as_the_exact_one():
    contexts = TASK.contexts(count_words)
    assert abs(count_words(contexts["irrelevant"]) - count_words(contexts["exact"])) <= 2


@pytest.mark.parametrize(
    ("response", "truncated", "outcome"),
    [
        ("Animal.", False, "right"),
        ("animals", False, "right"),
        ("The word names an animal", True, "right"),
        ("plant", True, "wrong"),
        ("animal or plant", False, "unparsable"),
        ("The word is", True, "truncated"),
    ],
)
def test_grading(response, truncated, outcome):
    example = next(e for e in TASK.examples("test") if e.answer == "animal")
    assert TASK.grade(example, response, truncated) == outcome
