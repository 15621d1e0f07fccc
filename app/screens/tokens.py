"""Tokens: which tokens drift? One example at a time, its arms stacked, those that move most first."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.address import linked
from app.parts import guard, lacks, show_figure, show_table
from app.queries import summary
from app.queries.state import Selection, current
from app.queries.token_table import Tokens
from app.recipes import study as recipes
from app.words import GLOSSARY, plain
from cr_interp.errors import UserError
from cr_interp.figures import token_html, token_strips
from cr_interp.tables import token_view
from cr_interp.tables.drift import extreme_layer
from cr_interp.tables.example_pairs import MARKS_SAY
from cr_interp.vocabulary import EMBEDDING, layer_name, layer_words


@dataclass(frozen=True)
class Choice:
    """The choice that this page shows: a seed, a measure, a layer, and how examples are ordered."""

    seed: int
    measure: str
    layer: int
    by_arm: str
    statistic: str
    stretch: bool

    def seed_of(self, seeds: list[int]) -> int:
        """Return the seed that is shown of an arm; one that was run once shows that run."""
        return self.seed if self.seed in seeds or len(seeds) != 1 else seeds[0]


def choose(chosen: Selection, tokens: Tokens, runs: dict[str, list[int]]) -> Choice:
    found = {seed for each in runs.values() for seed in each}
    seeds = sorted({seed for seed in found if seed in chosen.seeds} or found)
    several = [seed for seed in seeds if any(seed in each and len(each) > 1 for each in runs.values())] or seeds
    arms = list(runs)
    layers = [place for place in tokens.layers() if place != token_view.OUTPUT]
    names = [layer_name(place) for place in layers]
    measure = linked("token_measure", list(token_view.MOVES), chosen.token_measure)
    seed = linked("token_seed", several, several[0])
    by_arm = linked("by_arm", arms, more_harmed(chosen, arms))
    statistic = linked("statistic", list(token_view.STATISTICS), "max")
    stretch = linked("stretch", [False, True], False)
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    left.pills(
        "Measure",
        list(token_view.MOVES),
        key="token_measure",
        help=GLOSSARY["token_measure"],
        required=True,
        format_func=lambda name: token_view.MOVES[name][0],
    )
    right.toggle("Stretch the colours to this example", key="stretch", help=GLOSSARY["stretch"])
    top = st.columns([3, 3, 1])
    top[0].selectbox("Sorted by the drift of", arms, key="by_arm", help=GLOSSARY["order"])
    top[1].segmented_control(
        "by its response's",
        list(token_view.STATISTICS),
        key="statistic",
        required=True,
        help=GLOSSARY["statistic"],
        format_func=token_view.STATISTICS.__getitem__,
    )
    top[2].selectbox("Seed", several, key="token_seed", help=GLOSSARY["seeds"])
    name = linked("layer", names, layer_name(telling_layer(chosen, by_arm, layers)))
    if measure == "kl":
        st.caption("The output has no layers: the same at every layer.")
        return Choice(seed, measure, token_view.OUTPUT, by_arm, statistic, stretch)
    if len(names) > 1:
        st.select_slider("Layer", names, key="layer", help=GLOSSARY["layer"])
    return Choice(seed, measure, layers[names.index(name)], by_arm, statistic, stretch)


def more_harmed(chosen: Selection, arms: list[str]) -> str:
    """Choose, of the two compared arms, the one that the context harms more often; without answers the arm itself."""
    pair = [arm for arm in (chosen.arm, chosen.baseline) if arm in arms] or arms[-1:]
    if len(pair) < 2 or not chosen.study.has_table("generations"):
        return pair[0]
    try:
        counts = chosen.case_counts()
    except UserError:
        return pair[0]
    harmed = counts[counts["case"] == "harmed"].set_index("arm")["count"]
    return max(pair, key=lambda arm: int(harmed.get(arm, 0)))


def telling_layer(chosen: Selection, arm: str, layers: list[int]) -> int:
    """Find where the two compared arms differ most in the drift table; without the other one, where the arm drifts most;
    without the table, the last layer.
    """
    try:
        drift = chosen.drift()
        table = chosen.layer_table()
        wide = table.pivot(index="layer", columns="arm", values="estimate")
        apart = pd.Series(dtype=float)
        if {chosen.arm, chosen.baseline} <= set(wide) and chosen.arm != chosen.baseline:
            apart = (
                (wide[chosen.arm] - wide[chosen.baseline])
                .drop(layer_name(EMBEDDING), errors="ignore")
                .abs()
                .dropna()
            )
        if len(apart):
            layer = int(str(apart.idxmax()))
        else:
            layer = int(extreme_layer(drift[drift["arm"] == arm], chosen.measure)["layer"].iloc[0].split(",")[0])
    except (UserError, IndexError, KeyError, ValueError):
        return layers[-1]
    return layer if layer in layers else layers[-1]


def harmed_first(chosen: Selection, ranked: pd.DataFrame, arm: str, seed: int) -> pd.DataFrame:
    """Put the examples that the context harms under this arm and seed in front, each part in the order that it had."""
    if not chosen.study.has_table("generations"):
        return ranked.assign(harmed=False)

    def ids() -> set[str]:
        pairs = chosen.pairs()
        mine = pairs[(pairs["arm"] == arm) & (pairs["seed"] == seed) & (pairs["case"] == "harmed")]
        return set(mine["example_id"])

    try:
        harmed = chosen.once("harmed ids", ids, arm, seed)
    except UserError:  # damaged answers cost the order, not the page
        harmed = set()
    marked = ranked.assign(harmed=ranked["example_id"].isin(harmed))
    return marked.sort_values("harmed", ascending=False, kind="stable", ignore_index=True)


def choose_example(ranked: pd.DataFrame, choice: Choice) -> str:
    """Step through the examples, or choose one; the order is that of the table."""
    ids = list(ranked["example_id"])
    example = linked("example", ids, ids[0])
    here = ids.index(example)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, icon, to in (
            ("First", ":material/first_page:", 0),
            ("Previous", ":material/chevron_left:", here - 1),
            ("Next", ":material/chevron_right:", here + 1),
        ):
            idle = not 0 <= to < len(ids) or to == here
            st.button(
                label,
                icon=icon,
                disabled=idle,
                key=f"to-{label}",
                on_click=show,
                args=(example if idle else ids[to],),
            )
        st.selectbox("Example", ids, key="example", help=GLOSSARY["order"], width=360)
    st.html(ARROWS, unsafe_allow_javascript=True)
    row = ranked.iloc[here]
    harmed = int(ranked["harmed"].sum())
    first = f"the {harmed} harmed ones first, " if harmed else ""
    st.caption(
        f"Example {here + 1} of {len(ids)}, {first}sorted by the {token_view.STATISTICS[choice.statistic]} of "
        f"{plain(choice.by_arm)}: {plain(token_view.MOVES[choice.measure][1])} **{row['drift']:.3g}** over "
        f"{row['tokens']} tokens; farthest: token {row['position']}, {plain(token_view.visible(str(row['token'])))}."
    )
    return example


#: The arrow keys go to the example before and after, unless something is being typed or moved with them.
ARROWS = """<script>
if (!window.ctArrows) {
    window.ctArrows = true
    document.addEventListener('keydown', event => {
        const names = {ArrowLeft: 'to-Previous', ArrowRight: 'to-Next'}
        const taken = event.target.closest('input, textarea, [role=slider], [role=combobox], [role=radiogroup], [role=tab]')
        const button = names[event.key] && document.querySelector(`.st-key-${names[event.key]} button:not([disabled])`)
        if (button && !taken && !event.ctrlKey && !event.metaKey && !event.altKey) button.click()
    })
}
</script>"""


def show(example: str) -> None:
    st.session_state["example"] = example


def readings(
    chosen: Selection, tokens: Tokens, runs: dict[str, list[int]], choice: Choice, example: str
) -> list[token_view.Reading]:
    """Return the arms' responses to this example; an arm that was run once shows that run."""
    rows = tokens.example(example)
    found = []
    for arm, seeds in runs.items():
        mine = rows[(rows["arm"] == arm) & (rows["seed"] == choice.seed_of(seeds))]
        if len(mine):
            found.append(token_view.Reading.of(arm, mine, choice.measure))
    return found


def window(columns: int) -> tuple[int, int]:
    """Choose which columns are shown; a long response is read in windows."""
    parts = -(-columns // token_view.WINDOW)
    if parts <= 1:
        return 0, columns
    part = linked("part", list(range(1, parts + 1)), 1)
    st.caption(f"{columns} columns, {token_view.WINDOW} at a time:")
    st.pagination(parts, key="part")
    return (part - 1) * token_view.WINDOW, min(part * token_view.WINDOW, columns)


def said(
    chosen: Selection, choice: Choice, runs: dict[str, list[int]], example: str
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Read all answers to this example, and what each arm answered without and with the context."""
    generations = chosen.generations()
    mine = generations[generations["example_id"] == example]
    rows = []
    for arm, seeds in runs.items():
        table = summary.answers(mine, [arm], "exact", choice.seed_of(seeds))
        if len(table):
            given = table.iloc[0]
            rows.append(
                {"arm": arm, "without context": given[f"{arm} · without"], "with context": given[f"{arm} · with"]}
            )
    return mine, rows


def answers(chosen: Selection, choice: Choice, runs: dict[str, list[int]], example: str) -> None:
    """Draw prompt and outcomes of the same example, from ``generations``."""
    if not chosen.study.has_table("generations"):
        st.caption("This study has no table of responses.")
        return
    mine, rows = chosen.once("token answers", lambda: said(chosen, choice, runs, example), example, choice.seed)
    if not rows:
        st.caption("The table of responses has no such example.")
        return
    prompt = mine["prompt"].iloc[0]
    expected = mine["answer"].iloc[0] if "answer" in mine else None
    st.caption("Prompt" + (f" (expected: {plain(expected)})" if isinstance(expected, str) and expected else ""))
    st.code(
        str(prompt)[:4000], language=None, wrap_lines=True, height="content" if len(str(prompt)) < 600 else 200
    )
    show_table(pd.DataFrame(rows), "every arm's answers to this example")
    left, right = st.columns([3, 1])
    left.caption(MARKS_SAY)
    right.page_link(
        "screens/examples.py",
        label="Its pairs",
        icon=":material/compare:",
        query_params=chosen.address(case_arm=choice.by_arm, cases="all", only=example),
    )


def text(
    chosen: Selection,
    found: list[token_view.Reading],
    columns: list[list[int | None]],
    choice: Choice,
    end: float,
) -> tuple[int, int]:
    st.subheader("Text, coloured by drift", help=GLOSSARY["token_drift"], anchor="text")
    part = window(len(columns[0]))
    st.html(token_html.text_html(found, columns, choice.layer, choice.measure, end, part, chosen.all_arms))
    st.caption(
        "A token has the colour of the state that predicts it: how far it moves when the exact context returns. "
        "The pointer shows its numbers.",
        help=GLOSSARY["align"],
    )
    return part


def strips(
    chosen: Selection,
    found: list[token_view.Reading],
    columns: list[list[int | None]],
    choice: Choice,
    end: float,
    part: tuple[int, int],
    tokens: Tokens,
    example: str,
    runs: dict[str, list[int]],
) -> None:
    title = "Output, token by token" if choice.measure == "kl" else "Token × layer"
    st.subheader(title, help=GLOSSARY["token_measure"], anchor="strips")
    table = tokens.example(example)
    seeds = {reading.arm: choice.seed_of(runs[reading.arm]) for reading in found}
    whose = {"whose": "the farthest token shown lies"} if choice.stretch else {}
    click = None if choice.measure == "kl" else at_layer
    code = recipes.strips(chosen, example, seeds, choice.measure, end, choice.layer, part, **whose)
    show_figure(
        lambda: token_strips.strips(found, columns, choice.measure, end, choice.layer, part, **whose),
        f"tokens-{choice.measure}",
        table,
        chosen.image,
        on_click=click,
        wide=560,
        code=code,
        files=chosen.files,
    )


def at_layer(panel: str, x: float, y: float) -> None:
    """Follow a click on a cell: its layer is shown, and its token beside the figure."""
    st.session_state["layer"] = layer_name(int(y))
    st.session_state["column"] = int(x)


def cell(
    chosen: Selection, found: list[token_view.Reading], columns: list[list[int | None]], choice: Choice
) -> None:
    """Draw, beside the figure, what was clicked, in every arm, and where to go from there."""
    name = layer_name(choice.layer)
    places = list(range(len(columns[0])))
    far = farthest_column(found, columns, choice)
    at = linked("column", places, far)
    st.subheader(f"At {layer_words(choice.layer)}", help=GLOSSARY["token_cell"], anchor="cell")
    st.selectbox("Token (column)", places, key="column", help=GLOSSARY["token_cell"])
    rows = []
    for reading, mine in zip(found, columns, strict=True):
        index = mine[at]
        if index is not None:
            value = reading.at(choice.layer)[index]
            rows.append({"arm": reading.arm, "token": token_view.visible(reading.tokens[index]), "moved": value})
    moved = {"moved": token_view.MOVES[choice.measure][1]}
    show_table(pd.DataFrame(rows), "this token in every arm", formats={"moved": ".3g"}, names=moved)
    st.page_link(
        "screens/layers.py",
        label=f"Drift at layer {name}",
        icon=":material/layers:",
        query_params=chosen.address(layer=name),
    )
    st.page_link(
        "screens/maps.py",
        label=f"Maps at layer {name}",
        icon=":material/grid_on:",
        query_params=chosen.address(layer_x=name, layer_y=name),
    )


def farthest_column(found: list[token_view.Reading], columns: list[list[int | None]], choice: Choice) -> int:
    """Find the column of the token that moves most at this layer, in the arm that examples are sorted by."""
    for reading, mine in zip(found, columns, strict=True):
        if reading.arm == choice.by_arm:
            moved = [-1.0 if index is None else float(reading.at(choice.layer)[index]) for index in mine]
            return max(range(len(moved)), key=lambda column: moved[column])
    return 0


def page(chosen: Selection) -> None:
    st.markdown(
        "The response that an arm gave without the context is read again with it, token by token: **the stronger the "
        "colour, the farther the state that predicts this token moves**. Look for the token that carries the answer: "
        "where it is pale in one arm and strong in another, the context still decides the second arm's answer."
    )
    if lacks(chosen, "token_drift", "drift of single tokens"):
        return
    tokens = Tokens(chosen.study)
    every = tokens.runs()
    runs = {arm: every[arm] for arm in chosen.arms if every.get(arm)}
    if not runs:
        raise UserError("No tokens of these arms were measured. Choose other arms on the left.")
    st.caption("Tokens are measured under the exact context, the one of training.")
    choice = choose(chosen, tokens, runs)
    seed = choice.seed_of(runs[choice.by_arm])
    ranked = tokens.ranked(choice.by_arm, seed, choice.layer, choice.measure, choice.statistic)
    ranked = harmed_first(chosen, ranked, choice.by_arm, seed)
    if ranked.empty:
        raise UserError(f"{choice.by_arm} has no tokens at this layer with seed {seed}.")
    example = choose_example(ranked, choice)
    found = chosen.once(
        "readings", lambda: readings(chosen, tokens, runs, choice, example), example, choice.seed, choice.measure
    )
    columns = token_view.align([reading.tokens for reading in found])
    end = token_view.farthest(found) if choice.stretch else tokens.scale_end(choice.measure)
    part = (0, len(columns[0]))
    with guard("The responses"):
        st.subheader("Prompt and responses", help=GLOSSARY["outcome"], anchor="answers")
        answers(chosen, choice, runs, example)
    with guard("The text"):
        part = text(chosen, found, columns, choice, end)
    with guard("The strips"):
        left, right = st.columns([4, 1]) if choice.measure != "kl" else (st.container(), None)
        with left:
            strips(chosen, found, columns, choice, end, part, tokens, example, runs)
        if right is not None:
            with right:
                cell(chosen, found, columns, choice)


with guard("Token drift"):
    page(current())
