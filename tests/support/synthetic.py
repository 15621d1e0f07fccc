"""A plausible study made from random numbers, for tests that look at a study without training one.

Mental model: each arm is three probabilities (right without context; right with it, given right or wrong
without) and a curve of drift over layers. They are drawn per example and per seed and written through the
same functions as a real study's tables, so whatever reads a study reads this one. The numbers resemble the
first probes: ``opd`` internalises but is harmed when the context returns, ``nca`` is not.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cr_interp.files import append_jsonl
from cr_interp.study.study import Study

#: arm → (P(right without), P(right with | right without), P(right with | wrong without), lowest cosine)
ARMS: dict[str, tuple[float, float, float, float]] = {
    "base": (0.30, 0.99, 0.97, 0.42),
    "opd": (0.97, 0.72, 0.60, 0.84),
    "nca": (0.98, 0.995, 0.40, 0.955),
    "dual_opd": (0.96, 0.55, 0.30, 0.90),
    "sym_kl": (0.90, 0.97, 0.40, 0.93),
}
#: How much of the exact context's effect each control has.
CONTROLS = {"exact": 1.0, "paraphrase": 0.9, "mismatched": 1.3, "irrelevant": 0.5}
MEASURES = (
    "cosine",
    "centred_cosine",
    "relative_l2",
    "cka",
    "cka_examples",
    "cosine_p5",
    "cosine_trimmed",
    "top3_share",
    "norm_ratio",
    "shift_share",
    "knn_overlap",
    "knn_chance",
    "procrustes",
)
#: Measured beside the context controls: (1 − cosine) of unrelated tokens, and of the same view read once more.
REFERENCES = {"floor": 0.7, "repeat": 1e-9}
TERMS = {
    "opd": ["KL(q_x || f)"],
    "nca": ["KL(q_x || f)", "0.5 * KL(sg[q_x] || q_c)"],
    "dual_opd": ["KL(q_x || f)", "0.5 * KL(q_c || f)"],
    "sym_kl": ["KL(q_x || f)", "0.25 * KL(q_x || q_c)", "0.25 * KL(q_c || q_x)"],
}


#: What was asked for → the files of a study that was made so: making one takes many times as long as copying it.
_MADE: dict[str, Path] = {}
_FOLDER = tempfile.TemporaryDirectory(prefix="synthetic-")


def make_study(
    path: str | Path,
    arms: Sequence[str] = ("base", "opd", "nca"),
    seeds: Sequence[int] = (0, 1, 2),
    layers: int = 4,
    examples: int = 60,
    controls: Sequence[str] = ("exact", "paraphrase", "mismatched", "irrelevant"),
    steps: int = 100,
    seed: int = 0,
    text: str = "",
    tables: Sequence[str] = ("generations", "drift", "training"),
    repeat: int = 1,
) -> Study:
    """Write a study to ``path``. ``text`` is put into every name, prompt and response (for escaping tests).

    ``tables`` may also name ``cka_map`` and ``token_drift``; the latter's responses are ``repeat`` times as long. What was
    made in this process before is copied.
    """
    asked = repr((arms, seeds, layers, examples, controls, steps, seed, text, sorted(tables), repeat))
    new = not Path(path).exists()
    rng = np.random.default_rng(seed)
    study = Study.create(path, manifest(Path(path).name, arms, seeds, steps, examples, text))
    if new and asked in _MADE:
        shutil.copytree(_MADE[asked], path, dirs_exist_ok=True)
        return study
    if "generations" in tables:
        study.put("generations", generations(rng, arms, seeds, examples, controls, steps, text))
    if "drift" in tables:
        study.put("drift", drift(rng, arms, seeds, layers, examples, controls, steps))
    if "cka_map" in tables:
        study.put("cka_map", cka_map(rng, arms, seeds, layers, examples, steps))
    if "token_drift" in tables:
        study.put("token_drift", token_drift(rng, study.table("generations"), layers, repeat))
    if "training" in tables:
        for arm in arms:
            for each in seeds if arm != "base" else ():
                for row in training(rng, arm, steps, examples):
                    append_jsonl(study.run_path(arm, each) / "train.jsonl", row)
    if new:
        kept = Path(_FOLDER.name) / str(len(_MADE))
        _MADE[asked] = Path(shutil.copytree(path, kept, ignore=shutil.ignore_patterns("manifest.json")))
    return study


def manifest(
    name: str, arms: Sequence[str], seeds: Sequence[int], steps: int, examples: int, text: str = ""
) -> dict[str, Any]:
    return {
        "name": name,
        "created": "2026-07-01T09:00:00+00:00",
        "finished": "2026-07-01T09:05:12+00:00",
        "command": "cr-interp reproduce organism --seeds 0,1,2" + text,
        "task": "rules:shift" + text,
        "model": "builtin:organism-rules" + text,
        "model_fingerprint": "sha256:4f1c9a7d52b0e8d3",
        "teacher_fingerprint": "sha256:4f1c9a7d52b0e8d3",
        "tokenizer_fingerprint": "sha256:0be2771a90c4d6f5",
        "no_context": "empty_system",
        "context": {"messages": [{"role": "system", "content": "rule: shift" + text}], "splice": "{prompt}"},
        "arms": {arm: {"terms": TERMS.get(arm, ["KL(q_x || f)"])} for arm in arms if arm != "base"},
        "seeds": list(seeds),
        "training": {"lr": 3e-4, "batch_size": 64, "steps": steps, "support": "full", "optimizer": "adamw"},
        "evaluation": {"split": "test", "n": examples, "decoding": "greedy", "controls": list(CONTROLS)},
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "cr_interp": "0.1.0"},
        "git_revision": "0123456789abcdef0123456789abcdef01234567",
    }


def generations(
    rng: np.random.Generator,
    arms: Sequence[str],
    seeds: Sequence[int],
    examples: int,
    controls: Sequence[str],
    steps: int,
    text: str = "",
) -> pd.DataFrame:
    prompts = ["".join(rng.choice(list("abcdefgh"), 6)) + text for _ in range(examples)]
    rows = []
    for arm in arms:
        right_x, keep, rescue, _ = ARMS.get(arm, (0.9, 0.9, 0.5, 0.9))
        for seed in seeds:
            shift = rng.normal(0, 0.01)
            for index, prompt in enumerate(prompts):
                x = bool(rng.random() < right_x + shift)
                views = [("no_context", "none", x)]
                for control in controls:
                    strength = CONTROLS.get(control, 1.0)
                    if arm == "base":
                        right = rng.random() < (keep if x else rescue if strength in (1.0, 0.9) else 0.05)
                    else:
                        right = rng.random() < (1 - (1 - keep) * strength if x else rescue)
                    views.append(("with_context", control, bool(right)))
                for view, control, right in views:
                    wrong = str(rng.choice(["wrong", "wrong", "wrong", "unparsable", "truncated"]))
                    answer = prompt[1:6] + prompt[:1] if right else prompt[:6][::-1]
                    rows.append(
                        {
                            "arm": arm,
                            "seed": seed,
                            "step": 0 if arm == "base" else steps,
                            "split": "test",
                            "example_id": f"test-{index:04d}",
                            "view": view,
                            "control": control,
                            "sample": 0,
                            "prompt": prompt,
                            "response": answer + text,
                            "n_tokens": int(6 + (0 if right else rng.integers(0, 5))),
                            "outcome": "right" if right else wrong,
                        }
                    )
    return pd.DataFrame(rows)


def drift(
    rng: np.random.Generator,
    arms: Sequence[str],
    seeds: Sequence[int],
    layers: int,
    examples: int,
    controls: Sequence[str],
    steps: int,
) -> pd.DataFrame:
    sites = [("resid_pre", 0), *(("resid_post", layer) for layer in range(layers))]
    rows = []
    for arm in arms:
        lowest = ARMS.get(arm, (0.9, 0.9, 0.5, 0.9))[3]
        for seed in seeds:
            for control in (*controls, *REFERENCES):
                if control in REFERENCES:
                    gap = REFERENCES[control]
                else:
                    gap = min(
                        0.95, (1 - lowest) * CONTROLS.get(control, 1.0) * float(np.exp(rng.normal(0, 0.12)))
                    )
                for position, (site, layer) in enumerate(sites):
                    depth = position / max(1, len(sites) - 1)
                    # The embedding does not see the context; drift rises in the middle and falls at the end.
                    moved = gap * float(np.sin(np.pi * min(0.98, 0.15 + 0.65 * depth))) if position else 0.0
                    moved = gap if control == "floor" else moved
                    for measure in MEASURES:
                        if measure == "procrustes" and control not in ("exact", "floor"):
                            continue  # it is expensive, and measured where it is looked at
                        value, width = _measured(measure, moved)
                        rows.append(
                            {
                                "arm": arm,
                                "seed": seed,
                                "step": 0 if arm == "base" else steps,
                                "site": site,
                                "layer": layer,
                                "measure": measure,
                                "control": control,
                                "estimate": value,
                                "low": value - width,
                                "high": min(value + width, 1.0)
                                if measure not in ("relative_l2", "norm_ratio")
                                else value + width,
                                "n_tokens": examples * 7,
                                "n_examples": examples,
                            }
                        )
    return pd.DataFrame(rows)


def _measured(measure: str, moved: float) -> tuple[float, float]:
    """A measure's value and half an interval's width for a movement of ``moved`` (1 − cosine)."""
    value = {
        "cosine": 1 - moved,
        "centred_cosine": 1 - min(1.2, 1.4 * moved),
        "relative_l2": float(np.sqrt(2 * moved)),
        "cka": 1 - min(0.99, 0.8 * moved),
        "cka_examples": 1 - min(0.99, 0.75 * moved),
        "cosine_p5": 1 - min(1.5, 1.8 * moved),
        "cosine_trimmed": 1 - min(1.2, 1.1 * moved),
        "top3_share": 0.1 + 0.1 * moved,
        "norm_ratio": 1 + 0.2 * moved,
        "shift_share": min(1.0, 0.5 * moved),
        "knn_overlap": 1 - min(0.97, 1.5 * moved),
        "knn_chance": 0.02,
        "procrustes": 1 - min(0.99, 0.5 * moved),
    }[measure]
    exact = measure in ("knn_chance", "procrustes")  # no interval
    return value, float("nan") if exact else 0.12 * moved


def cka_map(
    rng: np.random.Generator, arms: Sequence[str], seeds: Sequence[int], layers: int, examples: int, steps: int
) -> pd.DataFrame:
    """All four kinds; neighbouring layers resemble each other, the two views less the more an arm drifts."""
    places = np.arange(-1, layers)
    x, y = (grid.ravel() for grid in np.meshgrid(places, places, indexing="ij"))
    near = np.exp(-np.abs(x - y) / max(2.0, layers / 3))
    rows = []
    for arm in arms:
        gap = 1 - ARMS.get(arm, (0.9, 0.9, 0.5, 0.9))[3]
        for seed in seeds:
            for kind, loss in (("no_context", 0.0), ("with_context", 0.0), ("views", gap), ("base", 0.4)):
                if kind == "base" and arm == "base":
                    continue
                depth = (np.maximum(x, y) + 1) / layers
                cka = near * (1 - loss * depth) - rng.uniform(0, 0.01, len(x)) * (x != y)
                rows.append(
                    pd.DataFrame(
                        {
                            "arm": arm,
                            "seed": seed,
                            "step": 0 if arm == "base" else steps,
                            "map": kind,
                            "layer_x": x.astype("int32"),
                            "layer_y": y.astype("int32"),
                            "cka": cka.astype("float32"),
                            "n_tokens": examples * 7,
                        }
                    )
                )
    return pd.concat(rows, ignore_index=True)


def token_drift(
    rng: np.random.Generator, generations: pd.DataFrame, layers: int, repeat: int = 1
) -> pd.DataFrame:
    """Every letter of the no-context response is a token, ``<end>`` the last; the first token drifts most."""
    answers = generations[generations["view"] == "no_context"]
    places = np.arange(-1, layers + 1)  # the last one is the output
    rows = []
    for (arm, seed, step), run in answers.groupby(["arm", "seed", "step"], sort=False):
        gap = 1 - ARMS.get(str(arm), (0.9, 0.9, 0.5, 0.9))[3]
        for example, response in zip(run["example_id"], run["response"], strict=True):
            tokens = np.array([*(str(response) * repeat), "<end>"], dtype=object)
            n = len(tokens)
            strength = gap * np.exp(-np.arange(n) / 3) * rng.uniform(0.7, 1.3, n)
            depth = (places + 1) / max(1, layers)
            moved = (
                np.sin(np.pi * np.clip(0.15 + 0.65 * depth, 0, 0.98))[:, None] * strength * (places >= 0)[:, None]
            )
            output = np.repeat(places == layers, n)
            rows.append(
                pd.DataFrame(
                    {
                        "arm": arm,
                        "seed": seed,
                        "step": step,
                        "example_id": example,
                        "position": np.tile(np.arange(n, dtype="int32"), len(places)),
                        "token": np.tile(tokens, len(places)),
                        "site": np.repeat(["resid_pre", *["resid_post"] * layers, "output"], n),
                        "layer": np.repeat(np.array([0, *range(layers), -1], dtype="int32"), n),
                        "cosine": np.where(output, np.nan, 1 - moved.ravel()).astype("float32"),
                        "relative_l2": np.where(output, np.nan, np.sqrt(2 * moved.ravel())).astype("float32"),
                        "kl": np.where(output, 5 * moved.ravel(), np.nan).astype("float32"),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def training(rng: np.random.Generator, arm: str, steps: int, examples: int) -> list[dict[str, Any]]:
    right_x, keep, rescue, _ = ARMS.get(arm, (0.9, 0.9, 0.5, 0.9))
    rows: list[dict[str, Any]] = []
    for step in range(0, steps + 1, max(1, steps // 20)):
        done = 1 - float(np.exp(-4 * step / steps))
        if step:
            terms = {
                name.split("* ")[-1]: float(2.0 * np.exp(-3 * step / steps / (1 + i)) + rng.gamma(1, 0.02))
                for i, name in enumerate(TERMS.get(arm, ["KL(q_x || f)"]))
            }
            rows.append(
                {
                    "kind": "train",
                    "step": step,
                    "loss": sum(terms.values()),
                    "terms": terms,
                    "grad_norm": float(rng.gamma(4, 0.3)),
                    "tokens_per_second": float(rng.normal(900, 20)),
                    "response_tokens": int(64 * (8 - 2 * done)),
                    "peak_resident_bytes": int(7e8 + 1e6 * step),
                    "topk_mass": 1.0,
                }
            )
        acc_x = 0.3 + (right_x - 0.3) * done
        harm = (1 - keep) * (done + 0.8 * done * (1 - done))
        acc_xc = acc_x * (1 - harm) + (1 - acc_x) * (0.97 + (rescue - 0.97) * done)
        rows.append(
            {
                "kind": "eval",
                "step": step,
                "acc_x": acc_x,
                "acc_xc": acc_xc,
                "harm": harm,
                "both_correct": acc_x * (1 - harm),
                "rescue": rescue,
                "delta_len": 0.1 * harm,
                "n": examples,
            }
        )
    return rows


def patching_rows(arms: Sequence[str] = ("opd",), seeds: Sequence[int] = (0, 1), layers: int = 4) -> pd.DataFrame:
    """A table ``patching`` in which the residual stream decides from the second layer on, and controls do nothing."""
    rows = []
    for arm in arms:
        for seed in seeds:
            for site in ("resid_post", "attn_out", "mlp_out"):
                for layer in range(layers):
                    real = 1.0 if site == "resid_post" and layer >= 2 else 0.2 * layer
                    for control, value in (("none", real), ("random", 0.1), ("other", 0.05)):
                        for readout in ("share", "answer"):
                            rows.append(
                                {
                                    "arm": arm,
                                    "seed": seed,
                                    "step": 100,
                                    "group": "harmed",
                                    "direction": "repair",
                                    "site": site,
                                    "layer": layer,
                                    "control": control,
                                    "readout": readout,
                                    "estimate": value,
                                    "low": value - 0.1,
                                    "high": value + 0.1,
                                    "n_examples": 12,
                                    "before": 0.0,
                                }
                            )
    return pd.DataFrame(rows)


def patching_examples(
    arms: Sequence[str] = ("opd",), seeds: Sequence[int] = (0, 1), layers: int = 4
) -> pd.DataFrame:
    """The single examples behind :func:`patching_rows`: of four, ``layer`` of them follow the residual stream."""
    return pd.DataFrame(
        {
            "arm": arm, "seed": seed, "step": 100, "example_id": f"test-{number:04d}", "cluster": f"c{number}", "group": "harmed",
            "direction": "repair", "site": "resid_post", "layer": layer, "control": control, "received": -1.0, "given": 3.0,
            "patched": 3.0 if number < layer else 1.0, "before": False, "answer": control == "none" and number < layer,
        }
        for arm in arms for seed in seeds for layer in range(layers) for number in range(4) for control in ("none", "random")
    )  # fmt: skip
