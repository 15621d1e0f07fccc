"""What `plan` calls sound has to begin: configurations that it finds nothing wrong with are run until their first step.

A case changes a few values of a sound configuration to others that could be meant. If `plan` ends with 0, the run has to come to
the first update, or to be merely long; a refusal in between is counted as a traceback, since `plan` should have said it.
"""

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from configurations import STUDY, prepare
from hypothesis import strategies as st

__all__ = ["cases", "play", "prepare"]
BASE = {
    **STUDY,
    "template": {},
    "arms": ["opd"],
    "own_arms": {},
    "training": {**STUDY["training"], "lora": None},
    "teacher": None,
}
ORGANISMS = [
    f"builtin:organism-{name}" for name in ("rules", "llama", "qwen3", "gemma2", "gpt-neox", "qwen3-large")
]
MEANT: dict[str, list[Any]] = {
    "task": ["rules:shift", "rules:swap", "codebook:A", "frozenlake:A", "sokoban:A", "sentiment", "wordclass", "medmcqa", "x"],
    "model": [*ORGANISMS, "somebody/model", "."],
    "teacher": [None, *ORGANISMS],
    "no_context": ["empty_system", "template_default"],
    "template": [{}, {"enable_thinking": False}, {"messages": "x"}, {"add_generation_prompt": False}, {"tokenize": True}],
    "context_cap": [None, 1, 2, 1000, 10**8],
    "max_new_tokens": [None, 1, 8, 100, 250, 256, 10**8],
    "max_turns": [1, 2, 8, 10**6],
    "arms": [["opd"], ["nca"], ["dual_opd"], ["sym_kl"], ["base"], ["nothing"], ["mine"], ["mine", "opd"]],
    "own_arms": [{}, {"mine": []}, {"mine": ["KL(q_x || f)"]}, {"mine": ["KL(q_x || q_x)"]}, {"mine": ["KL(f || f)"]},
                 {"mine": ["KL(sg[q_x] || f)"]}, {"mine": ["0 * KL(q_x || f)"]}, {"mine": ["-1 * KL(q_x || f)"]},
                 {"opd": ["KL(q_c || f)"]},
                 {"mine": ["1e400 * KL(q_x || f)"]}, {"mine": ["KL(q_x || q_c)"] * 3}, {"mine": ["KL(sg[q_x] || sg[q_c])"]}],
    "seeds": [[0], [2**32 - 1], [1, 0]],
    "threads": [1, 2, 4096],
    "report_to": [[], ["nothing"], ["none"], [""]],  # others ask for a login, which no file tells
    "training.batch_size": [1, 2, 3, 8],
    "training.lr": [1e-300, 1e-4, 100],
    "training.schedule": ["constant", "constant_with_warmup", "linear", "cosine"],
    "training.warmup_steps": [0, 1, 10**8],
    "training.weight_decay": [0, 100],
    "training.max_grad_norm": [1e-300, 1.0, 1e300],
    "training.temperature": [1e-320, 1e-30, 0.1, 1e30, 1e300],
    "training.top_k": [None, 1, 2, 5, 10**8],
    "training.reduction": ["token_mean", "sequence_mean"],
    "training.share_prefix": [True, False],
    "training.micro_batch": [None, 1, 2],
    "training.chunk": [None, 1, 3, 10**8],
    "training.gradient_checkpointing": [True],
    "training.bf16": [True],
    "training.lora": [None, *({"rank": r, "alpha": a, "target_modules": t} for r, a, t in (
        (2, 4, "all-linear"), (2, 4, ["q_proj"]), (2, 4, []), (2, 4, ["nothing"]), (2, 4, ["q_proj", "nothing"]),
        (2, 1e300, ["q_proj"]),
        (65536, 1, ["q_proj"]), (2, 4, ["lm_head"]), (2, 4, ["embed_tokens"]), (2, 4, [""]), (2, 4, ["norm"]),
        (1, 1e-300, "all-linear")))],
    "training.vllm": [None, "http://127.0.0.1:1", "https://x"],
    "training.eval_examples": [1, 2, 100, 10**5, 10**8],
    "training.keep_checkpoints": [1, 10**8],
    "evaluation.examples": [1, 100, 10**5, 10**8],
    "evaluation.split": ["test", "validation"],
    "evaluation.controls": [["exact"], ["exact", "paraphrase", "mismatched", "irrelevant"], ["paraphrase"], [],
                            ["exact", "exact"]],
    "evaluation.responses": ["own", "base", "opd", "nca", "x"],
    "evaluation.top_k": [None, 1, 10**8],
    "evaluation.top_p": [None, 1e-300, 1],
    "evaluation.temperature": [0, 1e-320, 1e300],
    "evaluation.samples": [1, 3],
    "evaluation.batch_size": [1, 10**6],
}  # fmt: skip
change = st.sampled_from([*MEANT]).flatmap(lambda key: st.tuples(st.just(key), st.sampled_from(MEANT[key])))
cases = st.lists(change, min_size=1, max_size=3)
#: Seconds after which a run that has not refused is merely long.
LONG = 40


def play(case: Any, sound: Path, folder: Path, outside: Path) -> tuple[str, Callable[[], None], str]:
    data = copy.deepcopy(BASE)
    for key, value in case:
        section, _, inner = key.rpartition(".")
        (data[section] if section else data)[inner or key] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    return str(case), planned_then_begun, "studies/"


class Begun(BaseException):
    pass


def planned_then_begun() -> None:
    import signal

    from cr_interp import cli

    sys.argv = ["cr-interp", "plan", "config.yaml"]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    import training.run.trainer as trainer

    def begun(*_: object) -> None:
        raise Begun

    trainer.DistillTrainer._clip_grad_norm = begun
    signal.signal(signal.SIGALRM, begun)
    signal.setitimer(signal.ITIMER_REAL, 3 * LONG)
    signal.signal(signal.SIGPROF, begun)
    signal.setitimer(signal.ITIMER_PROF, LONG)
    sys.argv = ["cr-interp", "distill", "config.yaml", "--in-process", "--out", "studies/s"]
    try:
        cli.main()
    except Begun:
        os._exit(0)
    except SystemExit as end:
        print("Traceback (most recent call last): `plan` called this sound", file=sys.stderr)
        raise SystemExit(99) from end
