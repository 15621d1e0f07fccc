"""The lines of Python behind the figures of Try it: they load the checkpoints and ask them the same once more.

What was typed stands in them as it was typed, and a checkpoint from this machine by its folder.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.recipes.study import Name, call, imports
from cr_interp.views import Context


def drift(
    models: Mapping[str, str],
    asked: tuple[str, Context | None, int, str],
    measure: str,
    movement: bool,
    layer: int,
) -> str:
    """Write the recipe; ``models``: name in the figure → what to load; ``asked``: prompt, context, token limit, form of no
    context.
    """
    return _tried(
        "figures",
        models,
        asked,
        "layers = pd.concat([each.layer_rows(name) for name, each in tried.items()], ignore_index=True)",
        "figure = "
        + call("figures.response_drift", Name("layers"), measure, movement, Name("list(tried)"), layer),
        before="import pandas as pd\n\n",
    )


def strips(
    models: Mapping[str, str],
    asked: tuple[str, Context | None, int, str],
    measure: str,
    layer: int,
    **words: Any,
) -> str:
    """Write the recipe; ``words``: what the caption says, as :func:`cr_interp.figures.token_strips.strips` takes it."""
    end = Name("token_view.farthest(found)")
    return _tried(
        "figures, token_view",
        models,
        asked,
        f"found = [token_view.Reading.of(name, each.token_rows(name), {measure!r}) for name, each in tried.items()]",
        "columns = token_view.align([reading.tokens for reading in found])",
        "figure = " + call("figures.strips", Name("found"), Name("columns"), measure, end, layer, **words),
    )


def lens(name: str, model: str, asked: tuple[str, Context | None, int, str], arms: Sequence[str]) -> str:
    """Write the recipe of one checkpoint's logit lens where its two answers part."""
    prompt, _, _, no_context = asked
    rows = call(
        "parting",
        Name("tryout.open_model(model)"),
        prompt,
        Name("context"),
        Name(f"tried[{name!r}].responses"),
        no_context,
    )
    return _tried(
        "figures",
        {name: model},
        asked,
        f"model = {model!r}",
        f"rows = {rows}",
        "figure = " + call("figures.parting_lens", Name("rows"), name, list(arms)),
        before="from cr_interp.mechanism.tried_lens import parting\n",
    )


def _tried(
    modules: str,
    models: Mapping[str, str],
    asked: tuple[str, Context | None, int, str],
    *body: str,
    before: str = "",
) -> str:
    prompt, context, limit, no_context = asked
    first = f"{before}{imports(modules)}from cr_interp.measure import tryout\n"
    given = "None"
    if context is not None:
        first += "from cr_interp.views import Context\n"
        given = f"Context.from_dict({context.to_dict()!r})"
    answer = call("tryout.try_out", Name("tryout.open_model(model)"), prompt, Name("context"), limit, no_context)
    lines = (
        f"context = {given}",
        f"models = {dict(models)!r}",
        f"tried = {{name: {answer} for name, model in models.items()}}",
        *body,
    )
    return first + "\n" + "\n".join(lines) + "\nfigure.show()\n"
