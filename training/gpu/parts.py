"""The parts of ``make gpu``; each takes where and on what, and yields findings. What a part needs is imported in it."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from cr_interp.capture import capture
from cr_interp.capture.check import check_model
from cr_interp.capture.checks import limit_for
from cr_interp.capture.sites import all_sites, residual_sites
from cr_interp.models.devices import chosen_device, place
from cr_interp.models.forward import ViewBatch, build_view, embedded
from cr_interp.models.generation import Decoding, generate
from cr_interp.models.loading import Loaded, load
from cr_interp.study.places import checkpoint_of, run_of
from cr_interp.study.study import Study
from cr_interp.views import EachOwn, render, shared_prefix
from training.gpu.findings import Finding
from training.objectives import arm_terms
from training.planning.architecture import of_config
from training.planning.memory import Sizes, step_memory
from training.run.distill import distill, exact_context, training_examples
from training.run.peak import CUDA
from training.settings import StudyConfig, load_config
from training.task_of import study_task

#: How often a time is taken; the median counts.
ROUNDS = 5
#: Relative difference of the weights of two runs that should be one. On a GPU sums are added up in changing orders.
SAME_CPU, SAME_GPU = 0.0, 1e-4
#: What a short run changes in its configuration.
_SETTINGS = ("steps", "batch_size", "eval_every", "eval_examples", "save_every")


@dataclass(frozen=True)
class Bench:
    """The place of results, and the model and configuration that are tried, with their size."""

    out: Path
    model: str
    config: str
    steps: int = 6
    batch: int = 16
    rows: int = 16
    prompt: int = 128
    response: int = 32
    longest: int = 512

    @staticmethod
    def tiny(out: Path) -> "Bench":
        """Make a bench that takes seconds on a CPU."""
        return Bench(out, "builtin:organism-llama", "organism-shift", 4, 4, 3, 12, 4, 64)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Give what is tried; bfloat16 on a CPU only shows that CPUs are slow at it."""
        return (torch.float32, torch.bfloat16)

    def settings(self, bf16: bool = False, **more: Any) -> StudyConfig:
        """Make the configuration of a short run: no evaluation in between, a checkpoint half-way."""
        chosen = {
            "steps": self.steps,
            "batch_size": self.batch,
            "eval_every": 10**6,
            "eval_examples": 4,
            "save_every": max(1, self.steps // 2),
            "bf16": str(bf16).lower(),
            **more,
        }
        return load_config(self.config, [f"training.{name}={value}" for name, value in chosen.items()])


def check(bench: Bench) -> Iterator[Finding]:
    """Run ``cr-interp check`` in each dtype and with each kernel; yield the worst of each claim.

    Two kernels in half precision may be as far apart as both are from the truth: twice what the dtype itself moves the
    states, by the eager kernel against float32. Where that is more than the check's own limit it is the limit.
    """
    for dtype in bench.dtypes:
        rounding = _rounding(bench, dtype)
        yield Finding("check", f"{_name(dtype)}, eager: states, against float32", rounding)
        for kernel in ("eager", "sdpa"):
            loaded = place(load(bench.model, dtype, attn_implementation=kernel))
            case = f"{_name(dtype)}, {kernel}"
            for each in check_model(loaded.model, loaded.pad_id, None, bench.longest):
                if each.status == "skipped":
                    yield Finding("check", f"{case}: {each.claim}", note=f"not run: {each.where}"[:160])
                elif each.claim.startswith("attention '") and each.difference is not None:
                    limit = max(each.limit or 0.0, 2 * rounding)
                    yield Finding.at_most("check", f"{case}: {each.claim}", each.difference, limit)
                else:
                    yield Finding(
                        "check",
                        f"{case}: {each.claim}",
                        each.difference,
                        limit=each.limit,
                        ok=each.status == "pass",
                        note="" if each.status == "pass" else each.where[:160],
                    )
            del loaded


def _rounding(bench: Bench, dtype: torch.dtype) -> float:
    """Return the largest relative difference of a site's states that the dtype itself makes, by the eager kernel."""
    if dtype == torch.float32:
        return 0.0
    states = []
    for each in (torch.float32, dtype):
        loaded = place(load(bench.model, each, attn_implementation="eager"))
        states.append(capture(loaded.model, _view(bench, loaded)[0], all_sites(loaded.model)))
        del loaded
    return max(_difference(states[1][site].float(), states[0][site].float()) for site in states[0])


@torch.no_grad()
def captured(bench: Bench) -> Iterator[Finding]:
    """Compare states with the library's own, the time of taking them with a plain forward's, and time decoding."""
    for dtype in bench.dtypes:
        yield from _captured(bench, place(load(bench.model, dtype)), dtype)


def _captured(bench: Bench, loaded: Loaded, dtype: torch.dtype) -> Iterator[Finding]:
    view, ids = _view(bench, loaded)
    sites = residual_sites(loaded.model)
    found = capture(loaded.model, view, sites)
    states = loaded.model(ids, output_hidden_states=True).hidden_states
    first, worst = bench.prompt - 1, 0.0
    for site in sites[:-1]:  # the library has the last block's output behind the last norm
        plain = states[0 if site.name == "resid_pre" else site.layer + 1][:, first : first + bench.response]
        worst = max(worst, _difference(found[site].float(), plain.reshape(-1, plain.shape[-1]).float()))
    limit = max(1e-4, limit_for(dtype))
    yield Finding.at_most("capture", f"{_name(dtype)}: every block's output = hidden_states", worst, limit)

    def plainly() -> Any:
        return loaded.model(ids, output_hidden_states=True)

    def by_us() -> Any:
        return capture(loaded.model, view, sites)

    times = [(_seconds(plainly), _seconds(by_us)) for _ in range(ROUNDS)]
    ratio = statistics.median(mine / plain for plain, mine in times)
    yield Finding("capture", f"{_name(dtype)}: time, capture / plain forward", ratio, "×")
    prompts, endless = ids[:, : bench.prompt].tolist(), Endless(loaded.name, loaded.model, loaded.tokenizer)
    took = [_seconds(lambda: generate(endless, prompts, Decoding(bench.response))) for _ in range(3)]
    speed = bench.rows * bench.response / statistics.median(took)
    yield Finding("capture", f"{_name(dtype)}: decoding, {bench.rows} at a time", speed, "tokens/s")


def step(bench: Bench) -> Iterator[Finding]:
    """Take training steps of ``opd`` and ``nca``: peak memory beside the formula's, and tokens a second."""
    for bf16 in (False, True) if chosen_device().type == "cuda" else (False,):
        for arm in ("opd", "nca"):
            case = f"{arm}, {'bf16' if bf16 else 'float32'}"
            config = bench.settings(bf16)
            study = Study.create(bench.out / f"step-{arm}-{bf16}", {"name": "step"})
            distill(config, arm, 0, study)
            rows = [row for row in study.train_rows(arm, 0) if row["kind"] == "train"][1:]
            yield Finding("step", f"{case}: a step", statistics.median(row["seconds"] for row in rows), "s")
            speed = statistics.median(row["tokens_per_second"] for row in rows)
            yield Finding("step", f"{case}: response tokens", speed, "tokens/s")
            formula = _formula(config, arm)
            peak = max((row.get(CUDA, 0) for row in rows), default=0)
            if peak:
                what, note = f"{case}: peak of memory / formula", f"{peak / 1e9:.2f} GB"
                yield Finding.at_most("step", what, peak / formula, 1.0, "×", note)
            else:
                what, note = f"{case}: formula of memory", "peak not measured: no CUDA device"
                yield Finding("step", what, formula / 1e9, "GB", note=note)


def resumed(bench: Bench) -> Iterator[Finding]:
    """Stop a run half-way, continue it, and compare its weights with those of the unbroken run."""
    config = bench.settings()
    ends = []
    for name, stop in (("whole", None), ("stopped", bench.steps // 2)):
        study = Study.create(bench.out / f"resume-{name}", {"name": name})
        if stop:
            distill(config, "nca", 0, study, [_StopAt(stop)])
        ends.append(_weights(distill(config, "nca", 0, study)))
    limit = SAME_CPU if chosen_device().type == "cpu" else SAME_GPU
    yield Finding.at_most("resume", "weights, stopped and continued = unbroken", _apart(*ends), limit)


def processes(bench: Bench) -> Iterator[Finding]:
    """Train in two processes what one trains, a device each."""
    count = torch.cuda.device_count()
    if count < 2:
        yield Finding(
            "processes", "weights, two processes = one", note=f"not run: {count} CUDA device{'s' * (count != 1)}"
        )
        return
    config = bench.settings()
    one = _weights(distill(config, "nca", 0, Study.create(bench.out / "one", {"name": "one"})))
    settings = config.training.model_dump(mode="json")
    chosen = [f"training.{name}={settings[name]}" for name in _SETTINGS]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "cr_interp", "distill", bench.config,
        *chosen, "--arms", "nca", "--seeds", "0", "--out", str(bench.out / "two"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        yield Finding("processes", "weights, two processes = one", ok=False, note=done.stderr.strip()[-200:])
        return
    two = _weights(checkpoint_of(run_of(bench.out / "two", "nca", 0), bench.steps))
    yield Finding.at_most("processes", "weights, two processes = one", _apart(one, two), 1e-3)


#: In the order in which they are run: what is quick and says most comes first.
PARTS: dict[str, Callable[[Bench], Iterator[Finding]]] = {
    "check": check,
    "capture": captured,
    "step": step,
    "resume": resumed,
    "processes": processes,
}


@dataclass(frozen=True)
class Endless(Loaded):
    """Never ends a response, so that as many tokens are decoded as are counted."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return ()

    @property
    def pad_id(self) -> int:
        return 0


class _StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = control.should_training_stop or state.global_step >= self.step


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _view(bench: Bench, loaded: Loaded) -> tuple[ViewBatch, Tensor]:
    """Return random ids, as a batch of our own and as the library takes it."""
    generator = torch.Generator().manual_seed(0)
    rows = embedded(loaded.model)
    ids = torch.randint(5, rows, (bench.rows, bench.prompt + bench.response), generator=generator)
    prompts, responses = ids[:, : bench.prompt].tolist(), ids[:, bench.prompt :].tolist()
    return build_view(prompts, responses, loaded.pad_id, 0), ids.to(loaded.model.device)


def _seconds(run: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp_min(1e-30))


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest relative difference over the tensors; infinite if they are not the same ones."""
    if one.keys() != other.keys():
        return float("inf")
    return max(_difference(one[name].float(), other[name].float()) for name in one)


def _formula(config: StudyConfig, arm: str) -> int:
    """Compute what the plan says that a step of this configuration holds at most, in bytes."""
    task, loaded = study_task(config), load(config.model)
    context = exact_context(task, loaded, config)
    assert not isinstance(context, EachOwn)  # the built-in tasks have one for all
    chosen = config.training
    asked = [each.prompt for each in training_examples(task, chosen.steps * chosen.batch_size, 0)]
    x, c = (
        [render(loaded.tokenizer, each, view, config.no_context) for each in asked] for view in (None, context)
    )
    prefix_x, prefix_c = shared_prefix(x), shared_prefix(c)
    response = config.max_new_tokens or task.max_new_tokens
    own_x, own_c = (max(map(len, side)) + response - prefix for side, prefix in ((x, prefix_x), (c, prefix_c)))
    sizes = Sizes(chosen.micro_batch or chosen.batch_size, response, own_x, own_c, prefix_x, prefix_c)
    return step_memory(of_config(loaded.model.config), sizes, arm_terms(arm), chosen).total
