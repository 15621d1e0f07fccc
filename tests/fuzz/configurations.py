"""Input 1: configurations, as YAML text and as overrides, of studies and of case studies.

A case changes values of a sound configuration, perhaps damages its text, and perhaps adds overrides. Most are planned, since that
goes through all checks in a moment; some are run, with as few steps as there can be.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from commands import command, imported
from hostile import VALUES, bytes_damage, damaged_bytes, damaged_object, object_damage
from hypothesis import strategies as st

STUDY: dict[str, Any] = {
    "name": "s", "task": "rules:shift", "model": "builtin:organism-rules", "teacher": None, "no_context": "empty_system",
    "template": {"a": True}, "context_cap": 64, "max_new_tokens": 8, "max_turns": 1, "arms": ["opd", "mine"],
    "own_arms": {"mine": ["KL(q_x || f)", "0.5 * KL(sg[q_x] || q_c)"]}, "seeds": [0], "threads": 1, "report_to": [],
    "every_step": False,
    "training": {
        "steps": 1, "batch_size": 2, "lr": 1e-3, "schedule": "constant", "warmup_steps": 0, "weight_decay": 0.01,
        "max_grad_norm": 1.0, "temperature": 1.0, "top_k": None, "reduction": "token_mean", "share_prefix": True,
        "micro_batch": None, "chunk": None, "gradient_checkpointing": False, "bf16": False, "vllm": None, "eval_every": 25,
        "eval_examples": 2, "save_every": 25, "keep_checkpoints": 1,
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj"]},
    },
    "evaluation": {
        "split": "test", "examples": 2, "controls": ["exact"], "temperature": 0.0, "top_k": None, "top_p": None, "samples": 1,
        "batch_size": 4, "responses": "own", "mask_sinks": True, "permutations": 0, "seed": 0,
    },
}  # fmt: skip
CASE_STUDY: dict[str, Any] = {
    "name": "c",
    "task": "rules:shift",
    "checkpoints": {"base": "builtin:organism-rules"},
    "responses": "base",
    "no_context": "empty_system",
    "template": {},
    "across": False,
    "sites_per_pass": None,
    "load": {"dtype": "float32", "device_map": None},
    "evaluation": {"examples": 2, "controls": ["exact"], "permutations": 0, "batch_size": 4},
}
#: What decides an experiment: it is read whole, and then asked for a setting that it does not have.
PREREGISTRATION: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "training" / "preregistrations" / "suite-2.yaml").read_text()
)
PREREGISTRATION["candidates"] = [{**PREREGISTRATION["candidates"][0], "tasks": ["rules:shift", "rules:swap"]}]
KEYS = [
    *STUDY,
    *(f"training.{key}" for key in STUDY["training"]),
    *(f"evaluation.{key}" for key in STUDY["evaluation"]),
    "steps",
    "lr",
    "training.lora.rank",
    "training.lora.alpha",
    "training.steps.x",
    "own_arms.x",
    "template.x",
    "",
    ".",
    "a.b.c",
]
#: More than a computer of ours can do in the time of a case is sound all the same, so what is run says these last.
SMALL = [
    "training.steps=1",
    "training.batch_size=2",
    "training.micro_batch=null",
    "training.eval_examples=2",
    "seeds=[0]",
]

override = st.builds(
    lambda key, value, raw: (
        f"{key}={raw if raw is not None else yaml.safe_dump(value, width=10**6).split(chr(10))[0]}"
    ),
    st.sampled_from(KEYS),
    st.sampled_from(VALUES),
    st.one_of(
        st.none(),
        st.sampled_from(["", "=", "*a", "[", "{", "!!python/name:os.system", "&a [*a]", "1_000", "0o17", "1e3"]),
    ),
)
cases = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["plan"] * 12 + ["distill"] * 3 + ["case-study"] + ["suite"] * 3),
        "values": st.lists(object_damage, max_size=2),
        "text": st.one_of(st.just([]), st.just([]), st.lists(bytes_damage, min_size=1, max_size=2)),
        "overrides": st.lists(override, max_size=2),
    }
).filter(lambda case: case["values"] or case["text"] or case["overrides"])


def prepare(sound: Path) -> None:
    from cr_interp.models.loading import load

    imported(
        "safetensors.torch",
        "transformers.trainer",
        "cr_interp.measure.case_study",
        "training.planning.plan_report",
        "training.run.distill",
        "training.studies.preregistered",
        "training.studies.workers",
    )
    load("builtin:organism-rules")


def play(case: dict[str, Any], sound: Path, folder: Path, outside: Path) -> tuple[str, Callable[[], None], str]:
    kind = case["kind"]
    sound_one = {"case-study": CASE_STUDY, "suite": PREREGISTRATION}.get(kind, STUDY)
    data = damaged_object(copy.deepcopy(sound_one), case["values"])
    text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode("utf-8", errors="surrogatepass")
    (folder / "config.yaml").write_bytes(damaged_bytes(text, case["text"]))
    overrides = [each for each in case["overrides"] if "\x00" not in each]
    if kind == "plan":
        words = ["plan", "config.yaml", "--", *overrides]
    elif kind == "suite":
        words = [
            "suite",
            "--preregistration",
            "config.yaml",
            "--screen",
            "--settings",
            "of another file",
            "--out",
            "suite",
        ]
    elif kind == "distill":
        words = ["distill", "config.yaml", "--in-process", "--out", "studies/s", "--", *overrides, *SMALL]
    else:
        words = ["case-study", "config.yaml", "--out", "studies/c", "--", *overrides, "examples=2"]
    return " ".join(words), command(words), ""
