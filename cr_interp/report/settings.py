"""The manifest of a study as tables: what differs between its arms, what they share, where it comes from."""

from typing import Any

import pandas as pd

from cr_interp.study.schema import Manifest


def configuration(manifest: Manifest, arms: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``(differences, shared)``: settings that differ between arms, an arm a column; and those that all share."""
    declared = manifest.get("arms")
    declared = declared if isinstance(declared, dict) else {}
    per_arm = {arm: flatten(declared.get(arm) or {}) for arm in arms}
    trained = [arm for arm in arms if per_arm[arm]]
    settings = list(dict.fromkeys(key for arm in trained for key in per_arm[arm]))
    rows, same = [], {}
    for key in settings:
        values = [per_arm[arm].get(key, "–") for arm in trained]
        if len(set(values)) > 1 or len(trained) == 1:
            cells = {arm: per_arm[arm].get(key, "–") if per_arm[arm] else "not trained" for arm in arms}
            rows.append({"setting": "objective" if key == "terms" else key, **cells})
        else:
            same[key] = values[0]
    shared = {"task": manifest.get("task"), "model": manifest.get("model"), **same}
    for part in ("training", "evaluation", "context", "no_context"):
        shared.update(flatten({part: manifest.get(part)}))
    return pd.DataFrame(rows, columns=["setting", *arms]), _settings(shared)


def provenance(manifest: Manifest) -> pd.DataFrame:
    """List where a study comes from: settings that the configuration does not hold."""
    keys = (
        "name",
        "created",
        "finished",
        "model",
        "model_fingerprint",
        "teacher_fingerprint",
        "tokenizer_fingerprint",
        "seeds",
        "git_revision",
        "versions",
        "schema_version",
    )
    return _settings({name: text for key in keys for name, text in flatten({key: manifest.get(key)}).items()})


def flatten(data: Any, prefix: str = "") -> dict[str, str]:
    """Flatten nested settings to ``a.b → text``; a list of plain values is one text, ``None`` is left out."""
    if isinstance(data, dict):
        found: dict[str, str] = {}
        for key, item in data.items():
            found.update(flatten(item, f"{prefix}.{key}" if prefix else str(key)))
        return found
    if isinstance(data, list) and any(isinstance(item, dict) for item in data):
        return flatten({str(index): item for index, item in enumerate(data)}, prefix)
    if data is None or data == []:
        return {}
    if isinstance(data, list):
        return {prefix: (" + " if prefix.endswith("terms") else ", ").join(map(str, data))}
    return {prefix: str(data)}


def _settings(data: dict[str, Any]) -> pd.DataFrame:
    rows = [(key, str(text)) for key, text in data.items() if text not in (None, "")]
    return pd.DataFrame(rows, columns=["setting", "value"])
