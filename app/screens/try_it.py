"""Try it: one or two checkpoints answer a prompt of the reader's, and the drift is measured at once."""

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.address import linked
from app.parts import clickable, guard, show_figure
from app.queries import live
from app.queries.state import Selection, current
from app.recipes import tryout as recipes_try
from app.typed import put_back, typed
from app.words import GLOSSARY, plain
from cr_interp import figures
from cr_interp.errors import UserError
from cr_interp.figures import token_html, token_strips
from cr_interp.figures.pair_html import responses_html
from cr_interp.figures.style import NOISE, arm_colour
from cr_interp.figures.tryout import parting_lens, response_drift
from cr_interp.study import checkpoints, questions
from cr_interp.study.checkpoints import Checkpoint
from cr_interp.study.study import Study
from cr_interp.tables import token_view
from cr_interp.tables.example_pairs import MARKS
from cr_interp.tasks import context_text
from cr_interp.tasks.base import Example
from cr_interp.views import Context, NoContext
from cr_interp.vocabulary import layer_name, layer_words

if TYPE_CHECKING:
    from cr_interp.measure.tryout import Answer, Tryout

FOLDER, NONE = "folder", "none"
#: Tokens of a response at most: what is drawn at once, and on a CPU about as long as one wants to wait.
LONGEST = token_view.WINDOW


@dataclass(frozen=True)
class Question:
    """What is asked: in both views the prompt, in one of them behind the context."""

    prompt: str
    context: Context | None
    limit: int
    no_context: NoContext
    example: Example | None
    """Where the prompt comes from, if it is as the study has it."""

    @property
    def asked(self) -> tuple[str, Context | None, int, NoContext]:
        """What a model is given."""
        return self.prompt, self.context, self.limit, self.no_context


@dataclass(frozen=True)
class Tried:
    """A checkpoint's answers, its name in the figures, and what it was loaded by."""

    name: str
    model: str
    tryout: "Tryout"


# -- which models --------------------------------------------------------------------------------------------


def choose(chosen: Selection) -> list[Checkpoint]:
    """One or two checkpoints, at first the two arms that are compared; a path that leads to none is said below its box."""
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
    """An arm's checkpoint of the lowest seed, the last step; the base model for ``base``; None if it is not on this machine."""
    mine = [each.key for each in found if each.arm == arm and not each.key.startswith("builtin:")]
    runs = list(dict.fromkeys(key.partition("/")[0] for key in mine))
    return next((key for key in reversed(mine) if key.partition("/")[0] == runs[0]), None) if runs else None


def say_missing(chosen: Selection, found: list[Checkpoint]) -> None:
    """Which of the study's arms cannot be asked, and why."""
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
    """What the checkpoints are called in the figures: their arms, if these differ."""
    for found in (
        [each.arm for each in picked],
        [each.arm if each.key == FOLDER else each.key for each in picked],
    ):
        if len(set(found)) == len(found):
            return found
    return [picked[0].arm, f"{picked[1].arm} (2)"]


# -- what is asked -------------------------------------------------------------------------------------------


def ask(study: Study, control: str) -> Question | None:
    """Prompt, context and token limit; at first the study's own."""
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
    """The context in a box; of a study whose examples bring their own, at first that of the example."""
    known = questions.contexts(study)
    name = control if control in known else "exact"
    asked = example or {each.id: each for each in live.examples(study)}.get(st.session_state.get("example", ""))
    own = questions.context_of(study, name, asked)
    default = context_text.write(own)
    typed("context", default)
    text = st.text_area("Context", key="context", height=150, help=GLOSSARY["context_text"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            f"The study's ({plain(name)})", icon=":material/undo:", on_click=put_back, args=("context", default),
            disabled=text == default or own is None,
        )  # fmt: skip
        st.button(
            "No context", icon=":material/remove_circle:", on_click=put_back, args=("context", ""),
            disabled=not text.strip(), help=GLOSSARY["without_context"],
        )  # fmt: skip
    return own if text == default else context_text.read(text)


# -- loading -------------------------------------------------------------------------------------------------


def load_button(picked: list[Checkpoint]) -> list[Checkpoint]:
    """The limit and the button in one row; returns the checkpoints that were asked for and can answer."""
    wanted = [each.model for each in picked]
    asked = st.session_state.get("asked for", [])
    missing = [each for each in picked if each.model not in asked]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Tokens at most", 1, LONGEST, step=1, key="limit", width=150, help=GLOSSARY["token_limit"]
        )
        if missing:
            label = "Load both and answer" if len(missing) > 1 else f"Load {plain(missing[0].arm)} and answer"
            st.button(
                label, icon=":material/play_arrow:", type="primary", key="load",
                on_click=lambda: st.session_state.update({"asked for": wanted}),
            )  # fmt: skip
        else:  # the press itself takes what was typed
            st.button("Answer", icon=":material/play_arrow:", type="primary", key="answer")
    return [each for each in picked if each.model in asked]


def answers(ready: list[Checkpoint], question: Question) -> list[Tried]:
    """Every checkpoint's answers; one that fails says why and costs the other nothing."""
    found: list[Tried] = []
    for name, checkpoint in zip(names(ready), ready, strict=True):
        with guard(plain(name)):
            with st.spinner(f"Loading {plain(checkpoint.words)} …"):
                live.model(checkpoint)
                if checkpoint is not ready[0] and found:
                    live.check_same_tokenizer(ready[0], checkpoint)
            with st.spinner(f"{plain(name)} answers …"):
                tryout = live.answer(checkpoint, *question.asked)
            found.append(Tried(name, checkpoint.model, tryout))
    return found


# -- what is shown -------------------------------------------------------------------------------------------


def responses(study: Study, tried: list[Tried], question: Question) -> None:
    st.subheader("Responses", help=GLOSSARY["greedy"], anchor="responses")
    if question.example is not None and question.example.answer:
        st.caption(f"Expected: **{plain(question.example.answer)}**")
    arms = [each.name for each in tried]
    for column, each in zip(st.columns(len(tried)), tried, strict=True):
        with column:
            st.html(
                f"<div style='border-left: 4px solid {arm_colour(each.name, arms)}; padding-left: 0.5rem; font-weight: 600; "
                f"overflow-wrap: anywhere'>{escape(each.name)}</div>"
            )
            pair = (each.tryout.without, each.tryout.given)
            notes = [note(study, question, answer) for answer in pair]
            st.html(responses_html((pair[0].text, pair[1].text), notes))
            st.caption(in_short(each.tryout))
            if each.tryout.unread:
                st.warning(
                    f"The tokenizer does not know {plain(' '.join(each.tryout.unread))}: the model reads something else "
                    "there.",
                    icon=":material/font_download_off:",
                )
    if question.context is None:
        st.info("Without a context both views are the same text: nothing moves.", icon=":material/equal:")


def note(study: Study, question: Question, answer: "Answer") -> str:
    outcome = None
    if question.example is not None:
        outcome = questions.grade(study, question.example, answer.text, answer.truncated)
    graded = f"{MARKS[outcome]} {outcome}, " if outcome else ""
    cut = ", cut at the limit" if answer.truncated and outcome != "truncated" else ""
    return f"{graded}{answer.n_tokens} token{'s' * (answer.n_tokens != 1)}{cut}"


def in_short(tryout: "Tryout") -> str:
    cosine = tryout.cosine.mean(1)
    lowest = int(cosine.argmin())
    where = "the embedding" if lowest == 0 else f"layer {tryout.sites[lowest].layer}"
    return (
        f"Lowest cosine **{cosine[lowest]:.4f}** ({where}, mean of {len(tryout.tokens)} tokens) · output KL "
        f"**{tryout.kl.mean():.3g}** nats a token"
    )


def mend(chosen: Selection, ready: list[Checkpoint], tried: list[Tried], question: Question) -> None:
    """The answer that follows when something of the context is taken out of the run, or put in once more."""
    st.subheader("Change the run, and let it answer", help=GLOSSARY["mend"], anchor="mend")
    if question.context is None:
        st.caption("Without a context there is nothing to take away.")
        return
    places = [token_view.place(each.tryout.layer_rows(each.name)) for each in tried]
    layers = sorted(place for place in set.intersection(*(set(map(int, each)) for each in places)) if place >= 0)
    names = [layer_name(place) for place in layers]
    kind = linked("edit", list(live.EDITS), "put")
    name = linked("edit_layer", names, names[-1])
    last = linked("edit_last", names, names[-1])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Edit", list(live.EDITS), key="edit", format_func=live.EDITS.__getitem__, help=GLOSSARY["mend"]
        )
        label = "Blocked from" if kind == "block" else "Changed after"
        st.select_slider(label, names, key="edit_layer", help=GLOSSARY["layer"], width=300)
        if kind == "block":
            st.select_slider("to", names, key="edit_last", help=GLOSSARY["layer"], width=300)
        st.button(
            "Answer so", icon=":material/build:", key="mend", help=GLOSSARY["mend"],
            on_click=lambda: st.session_state.update({"mended": True}),
        )  # fmt: skip
    if not st.session_state.get("mended"):
        st.caption("Nothing is computed before you press the button; each token may take two runs.")
        return
    layer, end = layers[names.index(name)], layers[names.index(last)]
    if kind == "block" and end < layer:
        st.info("The last blocked layer lies before the first: nothing is blocked.", icon=":material/block:")
        return
    others = tuple(each.prompt for each in live.examples(chosen.study) if each.prompt != question.prompt)[
        : live.DIRECTION
    ]
    by_model = {each.model: each for each in ready}
    for column, each in zip(st.columns(len(tried)), tried, strict=True):
        with column, guard(plain(each.name)):
            with st.spinner(f"{plain(each.name)} answers …"):
                answer = live.mend(
                    by_model[each.model], question.prompt, question.context, kind, (layer, end), question.limit,
                    question.no_context, others,
                )  # fmt: skip
            st.caption(f"**{plain(each.name)}**: {returned(answer.text, each.tryout)}")
            pair = (each.tryout.given.text, answer.text)
            notes = [
                f"with context, {note(chosen.study, question, each.tryout.given)}",
                f"changed, {note(chosen.study, question, answer)}",
            ]
            st.html(responses_html(pair, notes))
    done = live.EDITS[kind]
    where = f"in layers {layer} to {end}" if kind == "block" else f"at {layer_words(layer)}"
    st.caption(
        f"{done[:1].upper()}{done[1:]}, {where}, at the prompt's end and at "
        "every token that is written. Left: the answer with the context; right: the answer of the changed run. One prompt, no "
        f"interval; the direction is the mean over {len(others)} other prompts."
    )


def lens(chosen: Selection, ready: list[Checkpoint], tried: list[Tried], question: Question) -> None:
    """What every layer would say where the two answers part."""
    st.subheader("Where the answers part, layer by layer", help=GLOSSARY["lens_here"], anchor="lens")
    if question.context is None:
        st.caption("Without a context the answers are one.")
        return
    by_model = {each.model: each for each in ready}
    for column, each in zip(st.columns(len(tried)), tried, strict=True):
        with column, guard(plain(each.name)):
            checkpoint = by_model[each.model]
            rows = live.parting(
                checkpoint, question.prompt, question.context, question.limit, question.no_context
            )
            if rows.empty:
                st.caption(f"{plain(each.name)} answers alike in both views.")
                continue
            arms = [one.name for one in tried]
            code = recipes_try.lens(each.name, each.model, question.asked, arms)
            show_figure(
                parting_lens(rows, each.name, arms), f"lens-{tried.index(each)}", rows, chosen.image, code=code
            )


def returned(text: str, tryout: "Tryout") -> str:
    """Where a changed answer comes out, in words."""
    if text == tryout.without.text and text == tryout.given.text:
        return "both answers were the same before, and nothing changed."
    if text == tryout.without.text:
        return "the answer without the context is back."
    if text == tryout.given.text:
        return "nothing changed."
    return "neither of the two answers."


def choose_view(chosen: Selection, layers: pd.DataFrame) -> tuple[str, int]:
    """The measure and the layer, under the names that the Tokens page has for them."""
    measure = linked("tried_measure", list(token_view.MOVES), chosen.token_measure, name="token_measure")
    st.pills(
        "Measure", list(token_view.MOVES), key="tried_measure", help=GLOSSARY["token_measure"], required=True,
        format_func=lambda name: token_view.MOVES[name][0],
    )  # fmt: skip
    places = sorted(set(token_view.place(layers)))
    options = [layer_name(place) for place in places]
    mean = layers[layers["measure"] == "cosine"].groupby(token_view.place(layers))["estimate"].mean()
    farthest = int(mean.idxmin()) if mean.min() < 1 - NOISE else places[-1]
    layer = linked("tried_layer", options, layer_name(farthest), name="layer")
    if measure == "kl":
        return measure, token_view.OUTPUT
    if len(options) > 1:
        st.select_slider("Layer", options, key="tried_layer", help=GLOSSARY["layer"])
    return measure, places[options.index(layer)]


def at_layer(panel: str, x: float, y: float) -> None:
    """A click on a strip: its y is the layer."""
    st.session_state["tried_layer"] = layer_name(round(y))


def on_curve(panel: str, x: float, y: float) -> None:
    st.session_state["tried_layer"] = layer_name(round(x))


def curves(
    chosen: Selection, tried: list[Tried], question: Question, layers: pd.DataFrame, measure: str, layer: int
) -> None:
    if measure == "kl":
        st.caption("The output has no layers; choose another measure for the drift by layer.")
        return
    movement = linked("distance", [False, True], False)
    st.toggle("Distance from identical, log scale", key="distance", help=GLOSSARY["movement"])
    figure = response_drift(layers, measure, movement, [each.name for each in tried], layer)
    table = layers[layers["measure"] == measure]
    code = recipes_try.drift(models(tried), question.asked, measure, movement, layer)
    show_figure(clickable(figure), f"tried-drift-{measure}", table, chosen.image, on_click=on_curve, code=code)


def models(tried: list[Tried]) -> dict[str, str]:
    return {each.name: each.model for each in tried}


def tokens(chosen: Selection, tried: list[Tried], question: Question, measure: str, layer: int) -> None:
    rows = {each.name: each.tryout.token_rows(each.name) for each in tried}
    found = [token_view.Reading.of(name, mine, measure) for name, mine in rows.items()]
    columns = token_view.align([reading.tokens for reading in found])
    end = token_view.farthest(found)
    st.html(token_html.text_html(found, columns, layer, measure, end, arms=list(rows)))
    st.caption(
        "The response without the context, read in both views. A token has the colour of the state that predicts it; the "
        "scale ends at the token that moves most, so it changes with what you type. The pointer shows the numbers.",
        help=GLOSSARY["align"],
    )
    said = {"whose": "the farthest token shown lies", "context": "the context"}
    figure = token_strips.strips(found, columns, measure, end, layer, **said)
    table = pd.concat(rows.values(), ignore_index=True).drop(columns=["seed", "step", "example_id"])
    click = None if measure == "kl" else at_layer
    code = recipes_try.strips(models(tried), question.asked, measure, layer, **said)
    show_figure(figure, f"tried-tokens-{measure}", table, chosen.image, on_click=click, wide=480, code=code)


def page(chosen: Selection) -> None:
    st.markdown(
        "A checkpoint answers your prompt twice, without and with the context, and its answer without is then read again "
        "with it: **the less its states move, the less the context still changes**. Load one or two checkpoints, then edit "
        "the prompt or the context (Ctrl + Enter) and watch responses and drift follow."
    )
    picked = choose(chosen)
    question = ask(chosen.study, chosen.control)
    if question is None or not picked:
        return
    ready = load_button(picked)
    if not ready:
        st.caption("Nothing is loaded before you press the button; the first time takes a few seconds.")
        return
    tried = answers(ready, question)
    if not tried:
        return
    with guard("The responses"):
        responses(chosen.study, tried, question)
    with guard("The lens"):
        lens(chosen, ready, tried, question)
    with guard("The changed run"):
        mend(chosen, ready, tried, question)
    layers = pd.concat([each.tryout.layer_rows(each.name) for each in tried], ignore_index=True)
    st.subheader("Drift by layer", help=GLOSSARY["drift"], anchor="drift")
    measure, layer = choose_view(chosen, layers)
    with guard("The curves"):
        curves(chosen, tried, question, layers, measure, layer)
    st.subheader("Drift by token", help=GLOSSARY["token_drift"], anchor="tokens")
    with guard("The tokens"):
        tokens(chosen, tried, question, measure, layer)


with guard("This page"):
    page(current())
