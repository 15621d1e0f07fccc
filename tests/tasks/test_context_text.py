"""A context as text and back: every task's contexts come back as they were."""

import pytest

from cr_interp.errors import UserError
from cr_interp.tasks import context_text, get_task, task_names
from cr_interp.tasks.base import before
from cr_interp.views import Context


def letters(context: Context) -> int:
    return sum(len(message["content"]) for message in context.messages)


@pytest.mark.parametrize("name", [name for name in task_names() if name.partition(":")[2] in ("", "shift", "A")])
def test_contexts_of_the_tasks_come_back(name):
    task = get_task(name)
    for given in task.contexts(letters).values():
        context = before(task.examples("test", 1)[0], given)
        assert context_text.read(context_text.write(context)) == context


@pytest.mark.parametrize(
    "context",
    [
        None,
        Context.system("[user]\nis a line of this message"[7:]),
        Context(({"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n\nc"})),
        Context(splice="Hint: x\n{prompt}"),
        Context(({"role": "system", "content": ""},), splice="{prompt}!"),
    ],
)
def test_others_come_back(context):
    assert context_text.read(context_text.write(context)) == context


def test_what_people_type():
    assert context_text.read(" \n") is None
    assert context_text.read("say it twice") == Context.system("say it twice")
    mixed = context_text.read("be brief\n[user]\nhi\n[assistant] \nho\n")
    assert [tuple(message.values()) for message in mixed.messages] == [
        ("system", "be brief\n".strip()),
        ("user", "hi"),
        ("assistant", "ho"),
    ]
    assert context_text.read("a [user] inside a line").messages[0]["role"] == "system"


@pytest.mark.parametrize("text", ["[prompt]\na {prompt}\n[prompt]\n{prompt}", "[prompt]\nnowhere"])
def test_a_prompt_goes_to_exactly_one_place(text):
    with pytest.raises(UserError, match="prompt"):
        context_text.read(text)
