"""The selectors that pages share: study, arms, seeds, context control, measure, the two arms that are compared, sinks.

Mental model. The selectors are drawn before the page. Their values stay when the page changes, and stand in the URL, so that
a link shows the same to everybody. Each page draws only the selectors that it uses (:data:`PARTS`); the others keep their
values.

A URL may hold a value that is no option. Such a value is ignored, except for the study: then nothing is opened, and the page
says so. Only studies that were found can be chosen: a URL cannot name a path.
"""

import streamlit as st

from app.address import linked, linked_some
from app.queries.state import Selection, arms_of, controls_of, measures_of, seeds_of, sinks_in
from app.words import GLOSSARY, MEASURE_HELP, measure_name, plain
from cr_interp.study.searching import find_studies
from cr_interp.study.study import Study

#: The selectors that a page may ask for.
PARTS = ("study", "arms", "seeds", "control", "measure", "pair", "sinks")


class NotHere(Exception):
    """The URL asks for a study that was not found."""

    def __init__(self, asked: str, there: list[str]) -> None:
        super().__init__(asked)
        self.asked, self.there = asked, there


def choose(parts: tuple[str, ...] = PARTS) -> Selection | None:
    """Draw the sidebar, and return what is chosen. None without studies, and on a page that is not about a single study.

    Raises :class:`NotHere` for a study that was not found, :class:`~cr_interp.errors.UserError` for one that cannot be
    opened.
    """
    studies = find_studies()
    if not studies:
        return None
    names = list(studies)
    if "study" not in parts:
        linked("study", names, names[0])
        if "image" in parts:
            _image()
        return None
    _refuse_unknown(names)
    # The study always stands in the URL: without it, a link would open whichever study is found first on the reader's machine.
    name = linked("study", names, names[0], always=True)
    st.selectbox("Study", names, key="study", help=GLOSSARY["study"])
    study = Study.open(studies[name])
    every, trained = arms_of(study), seeds_of(study)
    arms, seeds = linked_some("arms", every), linked_some("seeds", trained)
    if "arms" in parts:
        st.multiselect("Arms", every, key="arms", help=GLOSSARY["arm"], placeholder="Choose arms")
    if "seeds" in parts and len(trained) > 1:
        st.multiselect("Seeds", trained, key="seeds", help=GLOSSARY["seeds"], placeholder="Choose seeds")
    controls = controls_of(study) or ["exact"]
    control = linked("control", controls, controls[0])
    if "control" in parts:
        st.selectbox("Context control", controls, key="control", help=GLOSSARY["control"])
    measures = measures_of(study)
    measure = linked("measure", measures, measures[0])
    if "measure" in parts:
        st.selectbox("Measure", measures, key="measure", help=MEASURE_HELP, format_func=measure_name)
    arm, baseline = _pair(every, "pair" in parts)
    sinks = linked("sinks", [False, True], False)
    if "sinks" in parts:
        st.toggle("With attention sinks", key="sinks", help=GLOSSARY["sinks"])
        if sinks:
            _about_sinks(study)
    _facts(study)
    image = _image()
    return Selection(
        study=study,
        all_arms=tuple(every),
        arms=tuple(name for name in every if name in arms),
        control=control,
        arm=arm,
        baseline=baseline,
        image=image,
        all_seeds=tuple(trained),
        seeds=tuple(sorted(seeds)),
        measure=measure,
        sinks=sinks,
        name=name,
    )


def _image() -> str:
    image = linked("image", ["svg", "png"], "svg")
    st.segmented_control(
        "Camera button saves",
        ["svg", "png"],
        format_func=str.upper,
        key="image",
        required=True,
        help="File format of the camera button at the top right of every figure.",
    )
    return image


def _refuse_unknown(names: list[str]) -> None:
    """Raise :class:`NotHere` if the URL names a study that was not found. Nothing is opened instead, and the URL stays as it
    is.
    """
    asked = st.query_params.get("study")
    refused = st.session_state.pop("refused", False)
    # A link to the page that is already open changes the server's parameters but not the address, so the address is set here.
    chosen = asked if refused and asked in names else st.session_state.get("another study")
    if chosen in names and (refused or asked not in names):
        del st.query_params["study"]
        st.session_state["study"] = chosen
        st.session_state.pop("another study", None)
    elif asked is not None and asked not in names:
        st.selectbox(
            "Study", names, index=None, key="another study", help=GLOSSARY["study"], placeholder="Choose a study"
        )
        st.session_state["refused"] = True
        raise NotHere(asked, names)


def _pair(every: list[str], shown: bool) -> tuple[str, str]:
    """Choose the two arms that are compared, and draw their selectors if they are ``shown``."""
    options = every or ["–"]
    first, second = default_pair(every)
    arm = linked("arm", options, options[first])
    baseline = linked("baseline", options, options[second])
    if shown:
        st.caption("Compare", help="The verdict and the paired differences answer for these two arms.")
        left, right = st.columns(2)
        left.selectbox("Arm", options, key="arm", help=GLOSSARY["arm"])
        right.selectbox("Baseline", options, key="baseline", help=GLOSSARY["baseline"])
    return arm, baseline


def default_pair(arms: list[str]) -> tuple[int, int]:
    """Choose which arms are compared at first, as indices: nca with opd where the study has them, else two that differ if it
    has two.

    >>> default_pair(["base", "opd"])
    (1, 0)
    """
    arm = arms.index("nca") if "nca" in arms else max(len(arms) - 1, 0)
    others = [name for i, name in enumerate(arms) if i != arm]
    baseline = "opd" if "opd" in others else others[0] if others else None
    return arm, arms.index(baseline) if baseline is not None else arm


def _about_sinks(study: Study) -> None:
    """Say below the switch why it may change nothing, or how many tokens it adds."""
    masked = sinks_in(study)
    evaluation = study.manifest.get("evaluation")
    if isinstance(evaluation, dict) and evaluation.get("mask_sinks") is False:
        st.caption("This study was measured with sinks throughout (`evaluation.mask_sinks=false`).")
    elif masked == 0:
        st.caption("None of this study's tokens is a sink: its numbers are the same with and without.")
    elif not study.has_table("drift_with_sinks"):
        st.caption("This study was measured without sinks only; `cr-interp capture STUDY --again` measures both.")
    else:
        st.caption(f"Up to {masked} tokens at a site are sinks. Single tokens and maps always include them.")


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
