"""Pages that describe the code, made from the code: commands from typer, configuration from pydantic, tables from their schema.

They are written beside the other pages at every build and are not kept in the repository, so they cannot be out of date.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import griffe
import typer
from pydantic import BaseModel
from roles import readable
from typer.cli import get_docs_for_click

from cr_interp.cli import app, plug_in
from cr_interp.measure.case_study import CaseStudy
from cr_interp.study.analyses import ANALYSES
from cr_interp.study.schema import COLUMNS
from cr_interp.tasks.yours.described import Description
from training.objectives import ARMS
from training.settings import StudyConfig, config_names


def pages() -> dict[str, str]:
    """Map file names in ``docs/reference`` → their texts."""
    return {"cli.md": commands(), "configuration.md": configuration(), "tables.md": tables()}


# -- commands ------------------------------------------------------------------------------------------------


def commands() -> str:
    """Write what ``--help`` says of every command, by typer's own writer."""
    if "plan" not in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        plug_in()
    group = typer.main.get_command(app)
    listed = "".join(
        f"| [`{name}`](#{name}) | {_first_sentence(command.help or '')} |\n"
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    )
    text = get_docs_for_click(obj=group, ctx=typer.Context(group, info_name="cr-interp"), name="cr-interp")
    text = text.replace("# `cr-interp`", "# Commands", 1).replace("**Usage**:\n\n", "")
    text = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+", f"| command | |\n|---|---|\n{listed}", text, count=1)
    text = re.sub(r"^## `cr-interp (.+)`$", r"## \1", text, flags=re.MULTILINE)
    text = re.sub(r"^\* `--help`: Show this message and exit\.\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\*\*Options\*\*:\n\n(?=\n|#|$)", "", text)
    return text.replace("* `", "- `").replace("```console\n$ ", "```text\n")


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."


# -- configuration -------------------------------------------------------------------------------------------


def configuration() -> str:
    """Write a table of keys for each section of the YAML files, from the pydantic models and their attributes' docstrings."""
    parts = [
        "# Configuration\n",
        "Every file is YAML, read safely (nothing in it is executed). An unknown key is refused with the nearest valid one. On "
        "the command line `key=value` overrides a key, with dots for sections: `training.lr=1e-5`; a key of `training` may be "
        "given without its section.\n",
        "## A study\n",
        "What `distill`, `reproduce` and `plan` read; `training/configs/` holds those below.\n",
        *_sections(StudyConfig),
        "### Arms\n",
        "An arm is a list of terms; these are built in, others go into `own_arms`.\n",
        "| arm | terms |\n|---|---|\n"
        + "".join(f"| `{name}` | {_terms(terms)} |\n" for name, terms in ARMS.items()),
        "### Bundled configurations\n",
        ", ".join(f"`{name}`" for name in config_names()) + "\n",
        "## A case study\n",
        "What `case-study` reads.\n",
        *_sections(CaseStudy),
        "## A task in data\n",
        "What `--task mine/task.yaml`, and the key `task` of a study, read.\n",
        *_sections(Description),
    ]
    return "\n".join(parts)


def _terms(terms: Iterable[str]) -> str:
    return " ".join(f"`{term.replace('||', '∥')}`" for term in terms) or "not trained"


def _sections(model: type[BaseModel], path: str = "", level: int = 3) -> list[str]:
    """Write a table of one model, then one for each model inside it."""
    title = f"{'#' * level} `{path}`\n" if path else ""
    said = _said(model)
    intro = _inline(said.pop("", "")) + "\n" if path else ""
    lines = ["| key | kind | default | |", "|---|---|---|---|"]
    inner: list[str] = []
    for name, field in model.model_fields.items():
        default = (
            "required" if field.is_required() else _code(_shown(field.get_default(call_default_factory=True)))
        )
        nested = _models(field.annotation)
        if nested:
            default = "" if field.is_required() else default if default == "`null`" else ""
        lines.append(f"| `{name}` | {_kind(field.annotation)} | {default} | {_inline(said.get(name, ''))} |")
        for each in nested:
            inner += _sections(each, f"{path}.{name}" if path else name, level)
    return [title, intro, "\n".join(lines) + "\n", *inner] if path else ["\n".join(lines) + "\n", *inner]


def _said(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring under each attribute, and under ``""`` that of the class; inherited ones included."""
    found: dict[str, str] = {}
    for each in reversed(
        [kind for kind in model.__mro__ if issubclass(kind, BaseModel) and kind is not BaseModel]
    ):
        described = _module(each.__module__)[each.__qualname__]
        for name, member in described.members.items():
            if member.is_attribute and member.docstring:
                found[name] = member.docstring.value
        found[""] = described.docstring.value if described.docstring else ""
    return found


@cache
def _module(name: str) -> griffe.Module:
    """Read what is written in one module: ``griffe.load`` reads its whole package, half a million objects, for every class."""
    file = Path(str(import_module(name).__file__))
    return griffe.visit(name, filepath=file, code=file.read_text(encoding="utf-8"))


def _models(annotation: Any) -> list[type[BaseModel]]:
    inside = [annotation, *get_args(annotation)]
    return [each for each in inside if isinstance(each, type) and issubclass(each, BaseModel)]


def _unchecked(annotation: Any) -> Any:
    """Return the type without the checks of its values: ``Annotated[str, …]`` is a text, also inside a list or a mapping."""
    if get_origin(annotation) is Annotated:
        return _unchecked(get_args(annotation)[0])
    if get_origin(annotation) in (tuple, list, dict):
        return get_origin(annotation)[tuple(map(_unchecked, get_args(annotation)))]
    return annotation


def _kind(annotation: Any) -> str:
    """Name a type as a reader of YAML calls it."""
    models = _models(annotation)
    if models:
        return "section"
    annotation = _unchecked(annotation)
    if get_origin(annotation) is Union:  # of a text and a list, say; `| None` is written below
        return " or ".join("null" if each is type(None) else _kind(each) for each in get_args(annotation))
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"typing\.|pathlib\.|datetime\.", "", text)
    several = re.fullmatch(r"tuple\[(Literal\[.+\]), \.\.\.\]", text)
    if several:
        return f"list of {_kind(get_args(annotation)[0])}"
    values = re.fullmatch(r"Literal\[(.+)\](?: \| None)?", text)
    if values:
        return values[1].replace("'", "`").replace(", ", ", ") + (" or null" if text.endswith("None") else "")
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    text = re.sub(r"tuple\[(\w+), \.\.\.\]|list\[(\w+)\]", lambda m: f"list of {m[1] or m[2]}", text)
    text = re.sub(r"\b(str|int|float|bool|Path)\b", lambda m: words[m[0]], text)
    return (
        text.replace(" | None", " or null").replace("|", "or").replace("dict[", "mapping [").replace("[", "\\[")
    )


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False, default=str)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _inline(docstring: str) -> str:
    """Write a docstring in one cell of a table."""
    return " ".join(readable(docstring).replace("``", "`").split()).replace("|", "\\|")


# -- tables --------------------------------------------------------------------------------------------------

#: What a column holds. One without a line here or in its analysis fails the build, so a new one is described when it is added.
MEANING = {
    "arm": "objective: `base`, `opd`, `nca`, …",
    "seed": "of the run; 0 for an arm that is not trained",
    "step": "training step of the checkpoint; 0 for an arm that is not trained",
    "split": "`train`, `validation` or `test`",
    "example_id": "of the example in its task",
    "view": "`no_context` or `with_context`",
    "control": "what stands in the context's place: `none`, `exact`, `paraphrase`, `mismatched`, `irrelevant`, `repeat`, `floor`",
    "sample": "number of the answer; 0 with greedy decoding",
    "prompt": "text of the prompt, without the context",
    "response": "text of the response",
    "n_tokens": "tokens: of the response, or that entered the estimate",
    "outcome": "`right`, `wrong`, `unparsable` or `truncated`; `ungraded` where the example has no answer key",
    "site": "`resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out`, `z` or `final`",
    "layer": "number of the block, from 0",
    "measure": "of the panel: `cosine`, `relative_l2`, `cka`, …",
    "estimate": "the measure's value",
    "low": "lower end of the 95 % interval; missing where there is none",
    "high": "upper end of the 95 % interval",
    "n_examples": "examples that entered the estimate",
    "position": "aligned position in the response, from 0",
    "token": "the token that is predicted there",
    "cosine": "between the two views' states",
    "relative_l2": "distance between the two views' states, over the norm without the context",
    "kl": "KL of the next-token distributions, without ‖ with the context, in nats",
    "fidelity": "KL(q_x ‖ f) in nats a token, the mean over the example's tokens; with the exact context, missing elsewhere",
    "invariance": "KL(q_x ‖ q_c) in nats a token, the mean over the example's tokens, q_c behind the context of the control",
    "map": "which two views (or models) the map compares",
    "layer_x": "layer of the first",
    "layer_y": "layer of the second",
    "cka": "debiased linear CKA of the two layers",
    "cluster": "what the example is drawn with in a bootstrap: examples that are not independent share it",
    "group": "of answers: `harmed`, `rescued`, `kept`, or `changed` where there is no key",
    "direction": "`repair` (the state without the context into the run with it) or `break` (the reverse)",
    "readout": "`share` of the logit difference that is recovered, or `answer`: whole answers that return (`break`: are gone)",
    "received": "logit difference of the run that received the state",
    "given": "logit difference of the run that gave it",
    "patched": "logit difference after patching, or with the span cut off",
    "before": "whether the whole answer was there before patching",
    "answer": "whether the whole answer is there after patching",
    "chosen": "`first`: among the heads that attribution names first; `drawn`: at random from the others",
    "span": "what is cut off or attended to: `context`, `system`, `turns`, `splice`, `prompt`, `template`, `sink` (the first "
    "token), `answer` (the aligned positions)",
    "readers": "who loses the span: `aligned` positions alone, or `all` tokens that are not of it",
    "width": "layers at once, from `layer` on",
    "cut": "tokens that were cut off (a mean over examples)",
    "head": "number of the attention (query) head, from 0; −1: the mean over heads, or the whole site",
    "parts": "whether the two answers part at this position",
    "logprob": "log-probability of `token`, in nats",
    "rank": "rank of `token`, 1 the most likely",
    "other": "token of the answer with the context, where the answers part",
    "other_logprob": "log-probability of `other`",
    "other_rank": "rank of `other`",
    "top": "the most likely token",
    "module": "name of the weight inside its block, such as `self_attn.q_proj`; `all` together where rows are of several",
    "action": "`remove` (the direction taken from the run with the context) or `add` (put into the run without it)",
    "vector": "`base`: what the context does to the base's states; `student`: to the checkpoint's own",
    "question": "`presence` (is a context there?) or `content` (is it this one?)",
    "tested": "the two contexts that the probe is tried on",
    "term": "of an objective, such as `KL(q_x || f)`, without its weight",
    "other_term": "the term that it is compared with; the same one for a norm and for the split-half baseline",
    "n_weights": "numbers in the weight",
    "other_arm": "arm of the run whose update is compared with this one's",
    "other_seed": "… and its seed",
}

TABLES = {
    "generations": "A row per answer.",
    **{each.table: f"A row per {each.about}." for each in ANALYSES},
    **{table: told for each in ANALYSES for table, told in each.tells.items()},
}


def tables() -> str:
    parts = [
        "# Tables of a study\n",
        "A study is a folder: `manifest.json` (configuration, fingerprints, seeds, versions), `tables/*.parquet`, and for each "
        'run `runs/ARM-sSEED/train.jsonl` and checkpoints. `cr_interp.study.open_study(name).table("drift")` reads one as a '
        "pandas data frame. A table has at least the columns below; more may follow them. How the numbers are read: "
        "[Reading the numbers](../reading.md).\n",
    ]
    meaning = MEANING | {column: text for each in ANALYSES for column, text in each.meanings.items()}
    for name, columns in COLUMNS.items():
        body = "".join(f"| `{column}` | {meaning[column]} |\n" for column in columns)
        parts.append(f"## `{name}`\n\n{TABLES[name]}\n\n| column | holds |\n|---|---|\n{body}")
    return "\n".join(parts)
