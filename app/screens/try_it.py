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
from app.try_asking import LONGEST, Question, ask, choose, names
from app.words import GLOSSARY, plain
from cr_interp.figures import token_html, token_strips
from cr_interp.figures.pair_html import responses_html
from cr_interp.figures.style import NOISE, arm_colour
from cr_interp.figures.tryout import parting_lens, response_drift
from cr_interp.study import questions
from cr_interp.study.checkpoints import Checkpoint
from cr_interp.study.study import Study
from cr_interp.tables import token_view
from cr_interp.tables.example_pairs import MARKS
from cr_interp.vocabulary import layer_name, layer_words

if TYPE_CHECKING:
    from cr_interp.measure.tryout import Answer, Tryout


@dataclass(frozen=True)
class Tried:
    """A checkpoint's answers, its name in the figures, and what it was loaded by."""

    name: str
    model: str
    tryout: "Tryout"


# -- loading -------------------------------------------------------------------------------------------------


def load_button(picked: list[Checkpoint]) -> list[Checkpoint]:
    """Draw the limit and the button in one row. Returns the checkpoints that were asked for and can answer."""
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
                label,
                icon=":material/play_arrow:",
                type="primary",
                key="load",
                on_click=lambda: st.session_state.update({"asked for": wanted}),
            )
        else:  # the press itself takes what was typed
            st.button("Answer", icon=":material/play_arrow:", type="primary", key="answer")
    return [each for each in picked if each.model in asked]


def answers(ready: list[Checkpoint], question: Question) -> list[Tried]:
    """Ask every checkpoint; one that fails says why and costs the other nothing."""
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
    """Draw the answer that follows when something of the context is taken out of the run, or put in once more."""
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
            "Answer so",
            icon=":material/build:",
            key="mend",
            help=GLOSSARY["mend"],
            on_click=lambda: st.session_state.update({"mended": True}),
        )
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
                    by_model[each.model],
                    question.prompt,
                    question.context,
                    kind,
                    (layer, end),
                    question.limit,
                    question.no_context,
                    others,
                )
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
    """Draw what every layer would say where the two answers part."""
    st.subheader("Where the answers part, layer by layer", help=GLOSSARY["lens_here"], anchor="lens")
    if question.context is None:
        st.caption("Without a context both answers are the same.")
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
    """Say where a changed answer comes out."""
    if text == tryout.without.text and text == tryout.given.text:
        return "both answers were the same before, and nothing changed."
    if text == tryout.without.text:
        return "the answer without the context is back."
    if text == tryout.given.text:
        return "nothing changed."
    return "neither of the two answers."


def choose_view(chosen: Selection, layers: pd.DataFrame) -> tuple[str, int]:
    """Choose the measure and the layer, under the names that the Tokens page has for them."""
    measure = linked("tried_measure", list(token_view.MOVES), chosen.token_measure, name="token_measure")
    st.pills(
        "Measure",
        list(token_view.MOVES),
        key="tried_measure",
        help=GLOSSARY["token_measure"],
        required=True,
        format_func=lambda name: token_view.MOVES[name][0],
    )
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
    """Follow a click on a strip: its y is the layer."""
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
