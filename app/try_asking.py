"""The upper half of the page Try it: which checkpoints answer, and what they are asked.

Mental model: :func:`choose` gives one or two checkpoints and says which cannot be had here, :func:`ask` gives a
:class:`Question`. Nothing here loads a model; ``screens/try_it.py`` does, and shows the answers.
"""

from dataclasses import dataclass

import streamlit as st

from app.address import linked
from app.queries import live
from app.queries.state import Selection
from app.typed import put_back, typed
from app.words import GLOSSARY, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.study import checkpoints, questions
from cr_interp.study.checkpoints import Checkpoint
from cr_interp.study.study import Study
from cr_interp.tables import token_view
from cr_interp.tasks import context_text
from cr_interp.tasks.base import Example
from cr_interp.views import Context, NoContext

__all__ = ["LONGEST", "Question", "ask", "choose", "names"]

FOLDER, NONE = "folder", "none"
#: Tokens of a response at most: what is drawn at once, and on a CPU about as long as one wants to wait.
LONGEST = token_view.WINDOW


@dataclass(frozen=True)
class Question:
    """A question: in both views the prompt, in one of them behind the context."""

    prompt: str
    context: Context | None
    limit: int
    no_context: NoContext
    example: Example | None
    """Where the prompt comes from, if it is as the study has it."""

    @property
    def asked(self) -> tuple[str, Context | None, int, NoContext]:
        """The prompt that a model is given."""
        return self.prompt, self.context, self.limit, self.no_context


# -- which models --------------------------------------------------------------------------------------------


def choose(chosen: Selection) -> list[Checkpoint]:
    """Choose one or two checkpoints, at first the two arms that are compared; a path that leads to none is said below its box."""
    found = checkpoints.checkpoints(chosen.study)
    order = {arm: index for index, arm in enumerate(figures.arm_order(each.arm for each in found))}
    found.sort(key=lambda each: (each.key.startswith("builtin:"), order[each.arm]))
    words = {each.key: each.words for each in found}
    words |= {FOLDER: "a folder on this machine …", NONE: "none"}
    by_key = {each.key: each for each in found}
    baseline, arm = (checkpoint_of(found, name) for name in (chosen.baseline, chosen.arm))
    left, right = st.columns(2)
    options = [*by_key, FOLDER]
    first = linked("checkpoint", options, baseline or options[0])
    with left:
        st.selectbox(
            "Checkpoint", options, key="checkpoint", format_func=words.__getitem__, help=GLOSSARY["checkpoint"]
        )
        one = by_key.get(first) or typed_folder("folder")
    options = [NONE, *(key for key in by_key if key != first), FOLDER]
    second = linked("beside", options, arm if arm in options else NONE)
    with right:
        st.selectbox("Beside it", options, key="beside", format_func=words.__getitem__, help=GLOSSARY["beside"])
        other = None if second == NONE else by_key.get(second) or typed_folder("folder beside")
    say_missing(chosen, found)
    return [each for each in (one, other) if each is not None]


def checkpoint_of(found: list[Checkpoint], arm: str) -> str | None:
    """Return an arm's checkpoint of the lowest seed, the last step; the base model for ``base``; None if it is not on this
    machine.
    """
    mine = [each.key for each in found if each.arm == arm and not each.key.startswith("builtin:")]
    runs = list(dict.fromkeys(key.partition("/")[0] for key in mine))
    return next((key for key in reversed(mine) if key.partition("/")[0] == runs[0]), None) if runs else None


def say_missing(chosen: Selection, found: list[Checkpoint]) -> None:
    """Say which of the study's arms cannot be asked, and why."""
    lacking = [arm for arm in chosen.all_arms if checkpoint_of(found, arm) is None]
    if lacking:
        st.caption(
            f"Not offered: {plain(', '.join(lacking))}. This study came without their checkpoints, only with the tables "
            "measured from them. Train them again (`cr-interp reproduce`), or choose a folder on this machine that has them."
        )


def typed_folder(key: str) -> Checkpoint | None:
    typed(key, "")
    path = st.text_input("Folder", key=key, placeholder="/path/to/checkpoint", help=GLOSSARY["model_folder"])
    if not path.strip():
        st.caption("Type the folder of a checkpoint, then press Enter.")
        return None
    try:
        return checkpoints.folder(path)
    except UserError as error:
        st.error(plain(error), icon=":material/error:")
        return None


def names(picked: list[Checkpoint]) -> list[str]:
    """Return what the checkpoints are called in the figures: their arms, if these differ."""
    for found in (
        [each.arm for each in picked],
        [each.arm if each.key == FOLDER else each.key for each in picked],
    ):
        if len(set(found)) == len(found):
            return found
    return [picked[0].arm, f"{picked[1].arm} (2)"]


# -- what is asked -------------------------------------------------------------------------------------------


def ask(study: Study, control: str) -> Question | None:
    """Ask for prompt, context and token limit; at first the study's own."""
    left, right = st.columns(2)
    with left:
        prompt, example = ask_prompt(study)
    with right:
        context = ask_context(study, control, example)
    if not prompt.strip():
        st.info("Type a prompt above.", icon=":material/edit:")
        return None
    limit = min(questions.token_limit(study) or 32, LONGEST)
    return Question(
        prompt, context, linked("limit", range(1, LONGEST + 1), limit), questions.no_context(study), example
    )


def ask_prompt(study: Study) -> tuple[str, Example | None]:
    found = {each.id: each for each in live.examples(study)}
    ids = list(found)
    asked = found[linked("asked", ids, ids[0], name="example")] if ids else None
    default = asked.prompt if asked else ""
    typed("prompt", default)
    prompt = st.text_area("Prompt", key="prompt", height=150, help=GLOSSARY["prompt"])
    if asked is not None:
        after = ids[(ids.index(asked.id) + 1) % len(ids)]
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.selectbox("Example", ids, key="asked", help=GLOSSARY["example"])
            st.button("Another example", icon=":material/shuffle:", on_click=put_back, args=("asked", after))
    return prompt, asked if asked is not None and prompt == default else None


def ask_context(study: Study, control: str, example: Example | None) -> Context | None:
    """Ask for the context; of a study whose examples bring their own, at first that of the example."""
    known = questions.contexts(study)
    name = control if control in known else "exact"
    asked = example or {each.id: each for each in live.examples(study)}.get(st.session_state.get("example", ""))
    own = questions.context_of(study, name, asked)
    default = context_text.write(own)
    typed("context", default)
    text = st.text_area("Context", key="context", height=150, help=GLOSSARY["context_text"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            f"The study's ({plain(name)})",
            icon=":material/undo:",
            on_click=put_back,
            args=("context", default),
            disabled=text == default or own is None,
        )
        st.button(
            "No context",
            icon=":material/remove_circle:",
            on_click=put_back,
            args=("context", ""),
            disabled=not text.strip(),
            help=GLOSSARY["without_context"],
        )
    return own if text == default else context_text.read(text)
