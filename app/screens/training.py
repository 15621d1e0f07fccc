"""Training: when did it emerge? Losses, behaviour and drift over steps; a run in progress can be followed."""

import shlex
from functools import partial

import pandas as pd
import streamlit as st

from app.address import linked
from app.parts import guard, lacks, show_figure
from app.queries.state import Selection, current, log_stamp, logs_of
from app.recipes import study as recipes
from app.words import GLOSSARY, measure_name, plain
from cr_interp import figures
from cr_interp.figures.training import at_step, drift_steps, extremes_by_step, is_loss, step_table
from cr_interp.study.rows import rows_of
from cr_interp.vocabulary import METRICS

#: Seconds between two looks at the logs of a run that is followed.
FOLLOW = 3
#: How narrow three panels side by side may get, in pixels.
WIDE = 740
#: Panels of the behaviour figure: what is evaluated during training, and how long the sampled responses are.
DURING = ("acc_x", "acc_xc", "harm", "both_correct", "delta_len", "length")
CURVES = {"loss": "loss and its terms", "speed": "gradient, speed and memory"}
EVALUATED = {"validation": "validation examples, during training", "checkpoints": "checkpoints, afterwards"}


def read(chosen: Selection) -> pd.DataFrame:
    """Read the logs of the chosen arms and seeds as they are now, with the sampled responses' ``length``.

    An arm that the tables do not know yet cannot be chosen on the left: it is being trained, and is shown.
    """
    with st.spinner("Reading the training logs …", show_time=True):
        log = logs_of(chosen.study).read()
    if log.empty:
        return log
    new = [arm for arm in dict.fromkeys(log["arm"]) if arm not in chosen.all_arms]
    log = rows_of(log, [*chosen.arms, *new], chosen.some_seeds)
    batch = _setting(chosen, "batch_size")
    return log.assign(length=log["response_tokens"] / batch) if batch and "response_tokens" in log else log


def every_arm(chosen: Selection, log: pd.DataFrame) -> list[str]:
    """Return all arms of the study and of the log, for stable colours."""
    return list(dict.fromkeys([*chosen.all_arms, *log["arm"]]))


def _setting(chosen: Selection, name: str) -> int | None:
    """Return a whole number above 0 from the manifest's ``training``, if there is one."""
    settings = chosen.study.manifest.get("training")
    value = settings.get(name) if isinstance(settings, dict) else None
    return value if isinstance(value, int) and value > 0 else None


# -- losses ------------------------------------------------------------------------------------------------------


def choose_losses() -> tuple[str, bool, bool]:
    curves = linked("curves_of", list(CURVES), "loss")
    logarithmic = linked("log_loss", [True, False], True)
    follow = linked("follow", [False, True], False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Curves",
            list(CURVES),
            key="curves_of",
            format_func=CURVES.__getitem__,
            required=True,
            help=GLOSSARY["loss"],
        )
        st.toggle("Logarithmic losses", key="log_loss", help=GLOSSARY["log_loss"])
        st.toggle("Follow a run in progress", key="follow", help=GLOSSARY["follow"])
    return curves, logarithmic, follow


def status(chosen: Selection, log: pd.DataFrame) -> None:
    """Say how far the runs are, and what of their logs could not be read."""
    reached = log.groupby(["arm", "seed"], sort=False)["step"].max()
    runs = "1 run" if len(reached) == 1 else f"{len(reached)} runs"
    planned = _setting(chosen, "steps")
    short = reached[reached < planned] if planned else reached[:0]
    if not planned:
        line = f"{runs}, up to step {reached.max()}."
    elif short.empty:
        line = f"{runs}, {'all ' if len(reached) > 1 else ''}at step {planned}, the last one planned."
    else:
        names = [f"{arm} seed {seed} at step {step}" for (arm, seed), step in short.items()]
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        written = logs_of(chosen.study).written()
        line = f"{runs}, {len(short)} of them not yet at step {planned}: {listed}."
        line += f" Last row written {written:%Y-%m-%d %H:%M:%S}." if written else ""
    st.caption(plain(line))
    problems = logs_of(chosen.study).problems()
    if problems:
        more = f" And {len(problems) - 4} more logs." if len(problems) > 4 else ""
        st.caption(
            f":material/warning: {plain(' '.join(problems[:4]))}{more} A run that was stopped may leave one such line.",
        )


def losses(chosen: Selection, curves: str, logarithmic: bool) -> None:
    with guard("The training log"):
        log = read(chosen)
        if log.empty:
            no_log(chosen)
            return
        status(chosen, log)
        columns = [name for name in figures.training_columns(log) if name not in METRICS and name != "length"]
        shown = [name for name in columns if (is_loss(name) and name != "grad_norm") == (curves == "loss")]
        if not shown:
            st.caption("The logs have no such column.")
            return
        arms = every_arm(chosen, log)
        table = log[log[shown].notna().any(axis=1)]
        code = recipes.training_log(chosen, log, shown, arms, logarithmic)
        show_figure(
            lambda: figures.training_curves(log, shown, arms, log=logarithmic),
            f"training-{curves}",
            table,
            chosen.image,
            wide=WIDE,
            code=code,
            files=log_stamp(chosen.study, log),
        )


def no_log(chosen: Selection) -> None:
    problems = logs_of(chosen.study).problems()
    if problems:
        st.warning(plain(" ".join(problems[:4])), icon=":material/warning:")
    st.info(
        "**There is no training log of these arms and seeds.** They were not trained here (the base model is not; "
        "`cr-interp compare` takes checkpoints as they are), or no step is finished yet: then follow the run.",
        icon=":material/show_chart:",
    )


# -- behaviour -----------------------------------------------------------------------------------------------------


def choose_source(chosen: Selection) -> str:
    """Choose the source: checkpoints are a second one where an arm's were evaluated at several steps."""
    steps = tested_steps(chosen)
    several = bool(len(steps)) and int(steps.map(len).max()) > 1
    options = list(EVALUATED) if several else ["validation"]
    source = linked("evaluated", options, "validation")
    if several:
        st.segmented_control(
            "Evaluated on",
            options,
            key="evaluated",
            format_func=EVALUATED.__getitem__,
            required=True,
            help=GLOSSARY["evaluated"],
        )
    return source


def tested_steps(chosen: Selection) -> pd.Series:
    """Return per trained arm the steps that ``generations`` has."""
    if not chosen.study.has_table("generations"):
        return pd.Series(dtype=object)

    def found() -> pd.Series:
        rows = rows_of(chosen.generations(), chosen.arms)
        steps = rows[rows["step"] > 0].groupby("arm")["step"].unique()
        return steps.map(lambda each: sorted(int(step) for step in each))

    return chosen.once("tested_steps", found)


def behaviour(chosen: Selection, source: str) -> None:
    with guard("The behaviour"):
        if source == "checkpoints":
            table = chosen.metrics_by_step()
            names = [name for name in DURING if name in METRICS]
            code = recipes.metrics_over_steps(chosen, names)
            show_figure(
                lambda: figures.metrics_over_steps(table, names, chosen.all_arms, control=chosen.control),
                "behaviour-checkpoints",
                table,
                chosen.image,
                wide=WIDE,
                code=code,
                files=chosen.files,
            )
            return
        log = read(chosen)
        if log.empty:
            st.caption("Without a log there is nothing to draw here.")
            return
        shown = [name for name in DURING if name in log and log[name].notna().any()]
        if not shown:
            st.caption("Nothing was evaluated during this training (`training.eval_every` sets how often).")
            return
        evaluated = log[log[[name for name in shown if name in METRICS]].notna().any(axis=1)]
        if evaluated["step"].nunique() == 1:
            st.caption(f"Evaluated at step {evaluated['step'].iloc[0]} only so far: a curve needs several.")
        else:
            only_the_last(chosen)
        arms = every_arm(chosen, log)
        table = log[log[shown].notna().any(axis=1)]
        code = recipes.training_log(chosen, log, shown, arms, batch_size=_setting(chosen, "batch_size"))
        show_figure(
            lambda: figures.training_curves(log, shown, arms),
            "behaviour",
            table,
            chosen.image,
            wide=WIDE,
            code=code,
            files=log_stamp(chosen.study, log),
        )


def only_the_last(chosen: Selection) -> None:
    """Say that the other pages' answers are no point of these curves, where checkpoints were evaluated once."""
    steps = tested_steps(chosen)
    if len(steps) and int(steps.map(len).max()) == 1:
        last = sorted({step for each in steps for step in each})
        st.caption(
            f"The answers of the other pages are of step {', '.join(map(str, last))} only; what is drawn here was evaluated "
            "on validation examples while the arms were trained.",
            help=GLOSSARY["evaluated"],
        )


# -- drift ---------------------------------------------------------------------------------------------------------


def drift(chosen: Selection) -> None:
    st.subheader("Drift by layer", help=GLOSSARY["drift"], anchor="drift")
    if lacks(chosen, "drift", "measured states"):
        return
    every = chosen.drift()
    rows = chosen.once("drift of the control", lambda: every[every["control"] == chosen.control])
    measure, control = chosen.measure, chosen.control
    if rows.empty:
        st.caption(
            f"No {plain(measure_name(measure))} of these arms was measured under the {plain(control)} context."
        )
        return
    steps = drift_steps(rows)
    if not steps:
        st.caption(
            "These arms were measured as they are, not at steps of a training: the page Layers shows them."
        )
        return
    movement = linked("step_log", [False, True], False)
    st.toggle("Distance from identical, log scale", key="step_log", help=GLOSSARY["movement"])
    before = [0] if len(at_step(rows, -1)) else []  # the arms that were not trained
    options = sorted({*before, *steps})
    step = linked("step", options, options[-1]) if len(steps) > 1 else steps[-1]
    if len(steps) > 1:
        st.select_slider("Step", options, key="step", help=GLOSSARY["step"])
    else:
        one_step(chosen, step)
    table = chosen.once("step_table", lambda: step_table(rows, measure, control))
    code = recipes.drift_at_step(chosen, step, movement)
    show_figure(
        lambda: figures.drift_at_step(rows, step, measure, control, movement, chosen.all_arms),
        f"drift-steps-{measure}",
        table,
        chosen.image,
        code=code,
        files=chosen.files,
    )
    if len(steps) > 1:
        st.subheader("Where it drifts most, over steps", help=GLOSSARY["lowest"], anchor="emergence")
        table = chosen.once("extremes_by_step", lambda: extremes_by_step(rows, measure, control))
        code = recipes.drift_over_steps(chosen, step, movement)
        click = partial(to_step, options)
        show_figure(
            lambda: figures.drift_over_steps(rows, measure, control, movement, step, chosen.all_arms),
            f"drift-over-{measure}",
            table,
            chosen.image,
            on_click=click,
            code=code,
            files=chosen.files,
        )
        st.caption("Click a marker to see the layers at its step.")


def to_step(options: list[int], panel: str, x: float, y: float) -> None:
    st.session_state["step"] = min(options, key=lambda step: abs(step - x))


def one_step(chosen: Selection, step: int) -> None:
    st.info(
        f"**States were captured at step {step} only**, the end of the training, so these curves show what has emerged and "
        "not when. A run's other checkpoints can be measured if they are kept.",
        icon=":material/timeline:",
    )
    with st.expander("How to see it emerge", icon=":material/terminal:"):
        name = shlex.quote(chosen.study.path.name)
        st.markdown("Train once more and keep all checkpoints; their answers and states are then measured, too.")
        st.code(
            f"cr-interp reproduce CONFIG every_step=true training.keep_checkpoints=1000 name={name}-steps",
            language="bash",
        )


def page(chosen: Selection) -> None:
    st.markdown(
        "How the arms got to where the other pages find them, step by step: their losses, what they answer, and how far "
        "the context still moves their states. **Look for the order of events**: the step at which Acc without the context "
        "rises, and whether Harm comes with it or only later."
    )
    curves, logarithmic, follow = choose_losses()
    every = FOLLOW if follow else None
    if curves == "loss":
        st.subheader("Losses", help=GLOSSARY["loss"], anchor="losses")
    else:
        st.subheader("Gradient, speed and memory", help=GLOSSARY["speed"], anchor="losses")
    # Only what is drawn is drawn anew while a run is followed: choices stand outside, so that they reach the URL.
    st.fragment(losses, run_every=every)(chosen, curves, logarithmic)
    st.subheader("Behaviour", help=GLOSSARY["harm"], anchor="behaviour")
    source = "validation"
    with guard("The answers"):
        source = choose_source(chosen)
    st.fragment(behaviour, run_every=every)(chosen, source)
    with guard("The drift"):
        drift(chosen)


with guard("The training"):
    page(current())
