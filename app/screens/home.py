"""Home: which studies are here, how to make one of your own checkpoints, and where to look first."""

import shlex

import streamlit as st

from app.address import linked, linked_text
from app.context_line import line
from app.main_pages import PAGES
from app.parts import guard
from app.queries.shelf import UNSEEN, shelf
from app.words import GLOSSARY, plain
from cr_interp.errors import UserError
from cr_interp.study import checkpoints
from cr_interp.study.searching import find_studies
from cr_interp.vocabulary import PAPER_ARMS

TOUR = (
    ("Overview", "overview", "**Did it help, and at what price?** The verdict on two arms, a row per question."),
    (
        "Examples",
        "examples",
        "**Which answers flip?** Prompt by prompt, what each arm says without and with the context.",
    ),
    ("Layers", "layers", "**Where do states move?** Drift by layer, and below it what repairs the answers."),
    (
        "Mechanism",
        "mechanism",
        "**Where is it decided?** States exchanged between the two views, with their controls.",
    ),
)
#: What a comparison is asked on.
ASKED = {"task": "a task", "prompts": "my own prompts"}


def tour() -> None:
    """Draw four steps for a first visit; they go when they are dismissed, and come back with the button."""
    if linked("tour", [True, False], True):
        with st.container(border=True):
            st.subheader("Four steps through a study", help=GLOSSARY["tour"], anchor="tour")
            name = str(st.session_state.get("study") or "")
            for column, (number, (title, page, says)) in zip(st.columns(4), enumerate(TOUR, 1), strict=True):
                with column:
                    st.page_link(
                        f"screens/{page}.py",
                        label=f"{number}. {title}",
                        icon=f":material/{PAGES[page].icon}:",
                        query_params={"study": name} if name else None,
                    )
                    st.markdown(says)
            st.button("I know my way", on_click=show_tour, args=(False,), key="no-tour")
    else:
        st.button(
            "Show the four steps", icon=":material/route:", on_click=show_tour, args=(True,), key="show-tour"
        )


def show_tour(shown: bool) -> None:
    st.session_state["tour"] = shown


def studies() -> None:
    st.subheader("Studies", help=GLOSSARY["study"], anchor="studies")
    found = find_studies()
    table = shelf(found)
    event = st.dataframe(
        table,
        hide_index=True,
        key="studies",
        on_select="rerun",
        selection_mode="single-row",
        height=min(38 + 35 * max(1, len(table)), 640),
        column_config={
            "study": st.column_config.TextColumn(pinned=True, help=GLOSSARY["study"]),
            "arms": st.column_config.TextColumn(help=GLOSSARY["arm"]),
            "seeds": st.column_config.NumberColumn(help=GLOSSARY["seeds"]),
            "verdict": st.column_config.TextColumn(help=GLOSSARY["verdict"]),
            "lacks": st.column_config.TextColumn(help=GLOSSARY["lacks"]),
        },
    )
    rows = event["selection"]["rows"]
    if rows and rows[0] < len(table):
        st.switch_page("screens/overview.py", query_params={"study": str(table["study"].iloc[rows[0]])})
    st.caption(
        "Click a column's head to sort, the box at the left of a row to open its study. The verdict is on the two arms that are "
        f"compared at first; where it says “{UNSEEN}”, it has not been computed on this machine yet."
    )
    more = st.expander("Open by name", key="by-name", on_change="rerun")
    if more.open:
        for number, column in enumerate(more.columns(4)):
            for name in list(table["study"])[number::4]:
                column.page_link("screens/overview.py", label=plain(name), query_params={"study": name})


def compare() -> None:
    """Draw a form that writes the command for somebody's own checkpoints."""
    st.subheader("Compare checkpoints of your own", help=GLOSSARY["compare"], anchor="compare")
    st.caption(
        "Nothing is run here: this writes the command, for a terminal on the machine that has the checkpoints."
    )
    names = PAPER_ARMS
    paths = {}
    for column, name in zip(st.columns(3), names, strict=True):
        key = f"path_{name}"
        linked_text(key)
        paths[name] = column.text_input(
            f"Checkpoint of {name}",
            key=key,
            placeholder="/path/to/checkpoint or hub/name",
            help=GLOSSARY["model_folder"],
        )
    way = linked("asked_on", list(ASKED), "task")
    left, middle, right = st.columns(3)
    left.segmented_control(
        "Asked on",
        list(ASKED),
        key="asked_on",
        format_func=ASKED.__getitem__,
        required=True,
        help=GLOSSARY["asked_on"],
    )
    for key in ("asked_what", "asked_context", "asked_out"):
        linked_text(key)
    asked = middle.text_input(
        "Task" if way == "task" else "File of prompts",
        key="asked_what",
        placeholder="sentiment" if way == "task" else "prompts.jsonl",
        help=GLOSSARY["asked_on"],
    )
    out = right.text_input(
        "Folder of the new study", key="asked_out", placeholder="studies/mine", help=GLOSSARY["study"]
    )
    context = ""
    if way == "prompts":
        context = middle.text_input(
            "File of the context", key="asked_context", placeholder="context.txt", help=GLOSSARY["context"]
        )
    problems = [problem for problem in (wrong(name, path) for name, path in paths.items()) if problem]
    for problem in problems:
        st.warning(plain(problem), icon=":material/folder_off:")
    st.code(command(paths, way, asked, context, out), language="bash", wrap_lines=True)


def wrong(name: str, path: str) -> str:
    """Say what is wrong with a path that looks like a folder of this machine; a name of the hub cannot be checked from here."""
    path = path.strip()
    if not path or not path.startswith(("/", "~", ".")):
        return ""
    try:
        checkpoints.folder(path)
    except UserError as error:
        return f"{name}: {error}"
    return ""


def command(paths: dict[str, str], way: str, asked: str, context: str, out: str) -> str:
    """Write the command as it can be pasted; what is not filled in stands in capitals.

    >>> command({"base": "b", "opd": " "}, "task", "sentiment", "", "")
    'cr-interp compare base=b --task sentiment --out studies/mine'
    """
    given = {name: path.strip() for name, path in paths.items() if path.strip()} or {
        name: "PATH" for name in paths
    }
    parts = ["cr-interp", "compare", *(f"{name}={path}" for name, path in given.items())]
    parts += [f"--{way}", asked.strip() or ("NAME" if way == "task" else "PROMPTS.jsonl")]
    if way == "prompts":
        parts += ["--context", context.strip() or "CONTEXT.txt"]
    parts += ["--out", out.strip() or "studies/mine"]
    return " ".join(shlex.quote(part) for part in parts)


def page() -> None:
    line([("studies", str(len(find_studies())))])
    st.markdown(
        "A model was trained to behave without a context as it did with it. **What happens when the context returns?** Choose "
        "a study below, or make one of your own checkpoints."
    )
    for what, draw in (("The tour", tour), ("The studies", studies), ("The command", compare)):
        with guard(what):
            draw()


with guard("Home"):
    page()
