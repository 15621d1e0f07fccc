"""The selectors that all pages share. They are drawn before the page, keep their value when the page changes,
and stand in the URL, so that a link shows somebody else the same thing.

A value in the URL that is no option is ignored, so a study can only be chosen from those that were found:
no path can come in this way.
"""

import streamlit as st

from app.state import Selection, arms_of, controls_of
from app.words import GLOSSARY, plain
from cr_interp.study import Study, find_studies


def choose() -> Selection | None:
    """Draw the sidebar. None if there is nothing to choose from; a study that cannot be opened raises."""
    studies = find_studies()
    if not studies:
        return None
    names = list(studies)
    # Not bound like the others: Streamlit leaves a default out of the URL, and which study is found first differs
    # from place to place, so a link without it would show other people another study.
    if "study" not in st.session_state:
        asked = st.query_params.get("study")
        st.session_state["study"] = asked if asked in studies else names[0]
    name = st.selectbox("Study", names, key="study", help=GLOSSARY["study"])
    if st.query_params.get("study") != name:
        st.query_params["study"] = name
    study = Study.open(studies[name])
    every = arms_of(study)
    arms = st.multiselect(
        "Arms", every, default=every, key="arms", bind="query-params", help=GLOSSARY["arm"],
        placeholder="Choose arms",
    )  # fmt: skip
    control = st.selectbox(
        "Context control", controls_of(study) or ["exact"], key="control", bind="query-params",
        help=GLOSSARY["control"],
    )  # fmt: skip
    st.caption("Compare", help="The headline, the cards and the paired differences answer for these two arms.")
    left, right = st.columns(2)
    first, second = default_pair(every)
    arm = left.selectbox(
        "Arm",
        every or ["–"],
        index=first,
        key="arm",
        bind="query-params",
        help=GLOSSARY["arm"],
    )
    baseline = right.selectbox(
        "Baseline", every or ["–"], index=second, key="baseline", bind="query-params",
        help=GLOSSARY["baseline"],
    )  # fmt: skip
    _facts(study)
    image = st.segmented_control(
        "Camera button saves", ["svg", "png"], default="svg", format_func=str.upper, key="image",
        bind="query-params", help="File format of the camera button at the top right of every figure.",
    )  # fmt: skip
    return Selection(
        study, tuple(every), tuple(a for a in every if a in arms), control, arm, baseline, image or "svg"
    )


def default_pair(arms: list[str]) -> tuple[int, int]:
    """Which arm is compared with which at first, as indices: nca with opd, or whatever is there, but never an arm
    with itself while there is another.

    >>> default_pair(["base", "opd"])
    (1, 0)
    """
    arm = arms.index("nca") if "nca" in arms else max(len(arms) - 1, 0)
    others = [name for i, name in enumerate(arms) if i != arm]
    baseline = "opd" if "opd" in others else others[0] if others else None
    return arm, arms.index(baseline) if baseline is not None else arm


def _facts(study: Study) -> None:
    manifest = study.manifest
    seeds = manifest.get("seeds")
    training = manifest.get("training")
    facts = {
        "Task": manifest.get("task"),
        "Model": manifest.get("model"),
        "Seeds": ", ".join(map(str, seeds)) if isinstance(seeds, list) else seeds,
        "Steps": training.get("steps") if isinstance(training, dict) else None,
    }
    lines = [f"{key}: **{plain(value)}**" for key, value in facts.items() if value not in (None, "")]
    if lines:
        st.divider()
        st.caption("  \n".join(lines))
