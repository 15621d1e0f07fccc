"""The selectors that all pages share. They are drawn before the page, keep their value when the page changes,
and stand in the URL, so that a link shows somebody else the same thing.

A value in the URL that is no option is ignored, so a study can only be chosen from those that were found:
no path can come in this way.
"""

from typing import Any

import streamlit as st

from app.address import linked
from app.queries.state import Selection, arms_of, controls_of, measures_of, seeds_of, sinks_in
from app.words import GLOSSARY, MEASURE_HELP, measure_name, plain
from cr_interp.study.searching import find_studies
from cr_interp.study.study import Study


def choose() -> Selection | None:
    """Draw the sidebar. None if there is nothing to choose from; a study that cannot be opened raises."""
    studies = find_studies()
    if not studies:
        return None
    names = list(studies)
    # Not bound like the others: Streamlit leaves a default out of the URL, and which study is found first differs
    # from place to place, so a link without it would show other people another study.
    linked("study", names, names[0], always=True)
    name = st.selectbox("Study", names, key="study", help=GLOSSARY["study"])
    study = Study.open(studies[name])
    every = arms_of(study)
    _carry("arms", every)
    arms = st.multiselect(
        "Arms", every, default=every, key="arms", bind="query-params", help=GLOSSARY["arm"],
        placeholder="Choose arms",
    )  # fmt: skip
    trained = seeds_of(study)
    seeds = trained
    _carry("seeds", trained)
    if len(trained) > 1:
        seeds = st.multiselect(
            "Seeds", trained, default=trained, key="seeds", bind="query-params", help=GLOSSARY["seeds"],
            placeholder="Choose seeds",
        )  # fmt: skip
    control = st.selectbox(
        "Context control", controls_of(study) or ["exact"], key="control", bind="query-params",
        help=GLOSSARY["control"],
    )  # fmt: skip
    measures = measures_of(study)
    measure = linked("measure", measures, measures[0])
    st.selectbox("Measure", measures, key="measure", help=MEASURE_HELP, format_func=measure_name)
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
    sinks = st.toggle("With attention sinks", key="sinks", bind="query-params", help=GLOSSARY["sinks"])
    if sinks:
        _about_sinks(study)
    _facts(study)
    image = st.segmented_control(
        "Camera button saves", ["svg", "png"], default="svg", format_func=str.upper, key="image",
        bind="query-params", help="File format of the camera button at the top right of every figure.",
    )  # fmt: skip
    return Selection(
        study=study,
        all_arms=tuple(every),
        arms=tuple(name for name in every if name in arms),
        control=control,
        arm=arm,
        baseline=baseline,
        image=image or "svg",
        all_seeds=tuple(trained),
        seeds=tuple(sorted(seeds)),
        measure=measure,
        sinks=sinks,
        name=name,
    )


def _carry(key: str, options: list[Any]) -> None:
    """Take a choice of several along to another study: what was all is all again, and so is what that study has none of.
    Otherwise the arms or seeds that both happen to have would be a choice that nobody made."""
    before = st.session_state.get(f"{key} before")
    if before not in (None, options) and key in st.session_state:
        chosen = st.session_state[key]
        kept = [option for option in options if option in chosen]
        st.session_state[key] = list(options) if set(chosen) >= set(before) or not kept else kept
    st.session_state[f"{key} before"] = list(options)


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


def _about_sinks(study: Study) -> None:
    """Why the switch may change nothing."""
    masked = sinks_in(study)
    evaluation = study.manifest.get("evaluation")
    if isinstance(evaluation, dict) and evaluation.get("mask_sinks") is False:
        st.caption("This study was measured with them throughout (`evaluation.mask_sinks=false`).")
    elif masked == 0:
        st.caption("None of this study's tokens is a sink: its numbers are the same with and without.")
    elif not study.has_table("drift_with_sinks"):
        st.caption("This study was measured without them only; `cr-interp capture STUDY --again` measures both.")
    else:
        st.caption(f"Up to {masked} tokens at a site. Single tokens and maps always have them.")


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
