"""What a study holds: its schema version, the sections of its manifest, and the columns that every table has at least.

Mental model: a study may come from anybody, so it is looked at once, when it is opened. Behind that door a section of the
manifest is what it is called, and a column of a table holds numbers or texts as its name says. ``generations`` is what all
else reads; every other table belongs to an analysis (``analyses.py``).
"""

from typing import Annotated, Any, Required

import pandas as pd
from pydantic import Field, StrictStr, TypeAdapter
from typing_extensions import TypedDict

from cr_interp.study.analyses import ANALYSES

SCHEMA_VERSION = 1


class Manifest(TypedDict, total=False):
    """The sections that somebody reads; more may stand there. Any may be missing: a study may be older, or only begun."""

    schema_version: Required[Annotated[int, Field(strict=True, ge=1)]]
    name: StrictStr
    task: StrictStr
    model: StrictStr
    teacher: StrictStr | None
    created: StrictStr | None
    finished: StrictStr | bool | None
    command: StrictStr
    arms: dict[str, Any]
    seeds: list[Annotated[int, Field(strict=True, ge=0, lt=2**32)]]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    config: dict[str, Any]
    case_study: dict[str, Any]
    context: dict[str, Any]
    controls: dict[str, Any]
    versions: dict[str, Any]
    asked: dict[str, Any]
    made_of: dict[str, Any]
    example_tokens: int | None
    # Whoever reads these looks at what they are.
    no_context: Any
    date: Any
    ends: Any
    engine: Any
    load: Any
    served: Any
    model_fingerprint: Any
    tokenizer_fingerprint: Any


#: Says which sections are not what they are called.
SECTIONS: TypeAdapter[Manifest] = TypeAdapter(Manifest)


#: Columns of text.
TEXTS = frozenset(
    {"arm", "split", "example_id", "cluster", "view", "control", "prompt", "response", "outcome", "site", "measure", "token",
     "map", "method", "reason", "group", "direction", "readout", "chosen", "span", "readers", "vector", "action", "term",
     "other_term", "module", "other_arm", "question", "tested", "other", "top", "made_of"}
)  # fmt: skip
#: Columns of numbers.
NUMBERS = frozenset(
    {"seed", "step", "sample", "n_tokens", "layer", "estimate", "low", "high", "n_examples", "n_masked", "position", "cosine",
     "relative_l2", "kl", "fidelity", "invariance", "layer_x", "layer_y", "cka", "n", "min_low", "min_high", "p", "p_layers",
     "n_dropped", "n_duplicates", "example_tokens", "cka_examples", "n_clusters", "n_other_answer", "n_weights", "other_seed",
     "given", "received", "patched", "logprob", "other_logprob", "rank", "other_rank", "head", "width", "cut"}
)  # fmt: skip
#: Columns of yes and no.
FLAGS = frozenset({"obeys_new", "other_answer", "parts"})
#: Of the numbers the whole ones.
WHOLE = frozenset(
    {"seed", "step", "sample", "n_tokens", "layer", "position", "layer_x", "layer_y", "n_examples", "other_seed", "head", "width"}
)  # fmt: skip
#: Counts, or places from 0: never negative.
COUNTS = WHOLE - {"layer", "layer_x", "layer_y", "head"} | {"n", "n_masked", "n_clusters", "n_weights"}
#: What a row is about, and how many it counts: without gaps, since a row of nobody is left out of some figures and not of others.
ABOUT = WHOLE | {
    *(
        "arm",
        "split",
        "example_id",
        "view",
        "control",
        "site",
        "measure",
        "map",
        "group",
        "direction",
        "readout",
        "span",
    ),
    *("readers", "vector", "action", "term", "other_term", "module", "other_arm", "question", "tested"),
}
#: Measures that are cosines.
COSINES = ("cosine", "centred_cosine", "cosine_p5", "cosine_trimmed")
#: A table has at most so many rows and columns, and so many bytes when it is unpacked: a small file can stand for far more.
MOST_ROWS, MOST_COLUMNS, MOST_BYTES = 200_000_000, 200, 16 << 30
#: Bytes that a file of a study has at most, packed: it is read in one piece where it is copied.
MOST_FILE = 4 << 30


def wrong_columns(frame: pd.DataFrame) -> list[str]:
    """List columns whose values do not fit their names, each as a part of a sentence."""
    found = []
    for name in map(str, frame.columns):
        column = frame[name]
        if gaps := int(column.isna().sum()) if name in ABOUT else 0:
            found.append(f"{gaps} rows are without '{name}'")
        if column.isna().all():
            continue
        if name in NUMBERS:
            if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
                found.append(f"'{name}' holds {column.dtype}, not numbers")
            elif name in WHOLE and not _whole(column.dropna()):
                found.append(f"'{name}' holds numbers that are not whole")
            elif name in COUNTS and bool((column.dropna() < 0).any()):
                found.append(f"'{name}' holds negative numbers")
        elif name in TEXTS and not _texts(column):
            found.append(f"'{name}' holds {column.dtype}, not texts")
        elif name in FLAGS and pd.api.types.infer_dtype(column, skipna=True) != "boolean":
            found.append(f"'{name}' holds {column.dtype}, not yes and no")
        elif name == "before" and not (pd.api.types.is_numeric_dtype(column) or _texts(column)):
            # A share, or whether one answer was right; of answers, the context or conversation that an example brought.
            found.append(f"'{name}' holds {column.dtype}, neither numbers nor texts")
    return found


#: Table → by what one of its rows is told from all others; of the other tables all columns are compared.
KEYS = {
    "generations": ("arm", "seed", "step", "split", "example_id", "view", "control", "sample"),
    **dict.fromkeys(
        ("drift", "drift_with_sinks"), ("arm", "seed", "step", "site", "layer", "measure", "control")
    ),
}
#: Rows of a table that are compared with each other: in a larger one that would take seconds.
COMPARED = 2_000_000


def wrong_rows(frame: pd.DataFrame, name: str) -> list[str]:
    """Say what of a table's rows cannot be: one that stands there twice, which counts twice or of which a figure takes one; a
    cosine beyond 1.
    """
    found = []
    if len(frame) <= COMPARED:
        alike = list(KEYS.get(name, [c for c in frame.columns if frame[c].dtype != object]))
        if twice := int(frame.duplicated(alike).sum()) if alike else 0:
            found.append(f"it holds {twice} values twice")
    if {"measure", "estimate"} <= {*frame.columns}:
        cosines = frame.loc[frame["measure"].isin(COSINES), "estimate"].dropna()
        if len(cosines) and float(cosines.abs().max()) > 1 + 1e-3:
            found.append(f"it holds a cosine of {float(cosines.abs().max()):.4g}")
    return found


def _whole(column: pd.Series) -> bool:
    small = ((column < 2**53) & (column > -(2**53))).all()
    return bool(small and (pd.api.types.is_integer_dtype(column) or (column % 1 == 0).all()))


def _texts(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _texts(pd.Series(column.cat.categories))
    return pd.api.types.infer_dtype(column, skipna=True) == "string"


#: Columns that every table has at least; a damaged table is recognised by their absence.
COLUMNS: dict[str, tuple[str, ...]] = {
    "generations": (
        "arm",
        "seed",
        "step",
        "split",
        "example_id",
        "view",
        "control",
        "sample",
        "prompt",
        "response",
        "n_tokens",
        "outcome",
    ),
    **{table: columns for analysis in ANALYSES for table, columns in analysis.tables.items()},
}
