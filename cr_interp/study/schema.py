"""What a study holds: its schema version and the columns that every table has at least."""

SCHEMA_VERSION = 1

#: Columns that every table has at least; a damaged table is recognised by their absence.
COLUMNS: dict[str, tuple[str, ...]] = {
    "generations": (
        "arm", "seed", "step", "split", "example_id", "view", "control", "sample",
        "prompt", "response", "n_tokens", "outcome",
    ),
    "drift": (
        "arm", "seed", "step", "site", "layer", "measure", "control",
        "estimate", "low", "high", "n_tokens", "n_examples",
    ),
    "drift_with_sinks": (
        "arm", "seed", "step", "site", "layer", "measure", "control",
        "estimate", "low", "high", "n_tokens", "n_examples",
    ),
    "token_drift": (
        "arm", "seed", "step", "example_id", "position", "token", "site", "layer", "cosine", "relative_l2", "kl",
    ),
    "cka_map": ("arm", "seed", "step", "map", "layer_x", "layer_y", "cka", "n_tokens"),
}  # fmt: skip
