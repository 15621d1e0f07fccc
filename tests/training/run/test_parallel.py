"""Several processes train what one does: the same draws, losses and weights; stopped, they continue."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import warm
from killing import killed_on_its_way, ran_until
from safetensors.torch import load_file
from tiny import tiny
from torch import nn

from cr_interp.errors import UserError
from cr_interp.models.loading import load
from training.run import parallel

ROOT = Path(__file__).resolve().parents[3]
STEPS = 6
RUN = [
    "distill",
    "organism-shift",
    f"training.steps={STEPS}",
    "training.batch_size=8",
    "training.save_every=2",
    "training.eval_every=3",
    "training.eval_examples=8",
    "--arms",
    "nca",
    "--seeds",
    "0",
    "--resume",
]
ONE = [sys.executable, "-m", "cr_interp", *RUN, "--in-process"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "cr_interp", *RUN]


@pytest.fixture(autouse=True, scope="module")
def of_this_clone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def to(out: Path, command: list[str]) -> list[str]:
    return [*command, "--out", str(out)]


def run(command: list[str], out: Path, cold: bool = False) -> None:
    ran_until(to(out, command), out.parent / "log", cold=cold)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process trains, once for all."""
    out = tmp_path_factory.mktemp("alone") / "one"
    run(ONE, out)
    return out


def rows(out: Path) -> dict[tuple[str, int], dict]:
    """The last row of each kind and step: a step that was done again after a stop is written twice."""
    lines = (out / "runs" / "nca-s0" / "train.jsonl").read_text().splitlines()
    return {(row["kind"], row["step"]): row for row in map(json.loads, lines)}


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "runs" / "nca-s0" / f"checkpoint-{STEPS}" / "model.safetensors")


def close(one: Path, two: Path, bound: float) -> None:
    for name, value in weights(one).items():
        assert (weights(two)[name] - value).norm() <= bound * value.norm(), name


@pytest.mark.slow
def test_two_processes_train_what_one_trains_and_continue_when_killed(one, tmp_path):
    run(TWO, tmp_path / "two", cold=True)  # by the launcher itself
    single, double = rows(one), rows(tmp_path / "two")
    assert single.keys() == double.keys()
    for key, row in single.items():
        if key[0] == "eval":
            assert {name: double[key][name] for name in ("acc_x", "acc_xc", "n")} == {
                name: row[name] for name in ("acc_x", "acc_xc", "n")
            }
            continue
        assert double[key]["response_tokens"] == row["response_tokens"]  # the same draws
        for name in ("loss", "grad_norm"):
            assert double[key][name] == pytest.approx(row[name], rel=1e-4)
        assert double[key]["terms"] == pytest.approx(row["terms"], rel=1e-4)
        assert double[key]["topk_mass"] == pytest.approx(row["topk_mass"])
    close(one, tmp_path / "two", 1e-5)
    kills = killed_on_its_way(to(tmp_path / "killed", TWO), tmp_path / "killed", "nca-s0", STEPS)
    assert kills >= 1
    assert not list((tmp_path / "killed").rglob(".saving-*"))
    close(tmp_path / "two", tmp_path / "killed", 1e-5)
    print(f"two processes, killed {kills} times")


@pytest.mark.slow
def test_one_process_continues_what_two_began(one, tmp_path):
    """The batch is the configuration's whatever it is divided by, so the number of processes may change on the way."""
    out = tmp_path / "both"
    began = out / "runs" / "nca-s0" / "checkpoint-2" / "trainer_state.json"
    assert not ran_until(to(out, TWO), tmp_path / "log", began.is_file)
    assert not (out / "runs" / "nca-s0" / f"checkpoint-{STEPS}").exists()
    run(ONE, out)
    close(one, out, 1e-5)


@pytest.mark.slow
def test_a_step_with_sharded_weights_is_that_with_whole_ones(tmp_path):
    """torch's FSDP2 over two processes on the CPU; the library's own switch for it wants GPUs."""
    script = ROOT / "tests" / "support" / "sharded_step.py"
    found = warm.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(script)],
        cwd=tmp_path,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, script.parent))),
        },
        timeout=200,
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
def test_a_run_with_sharded_weights_is_that_with_whole_ones_and_continues(tmp_path):
    """The library's own FSDP2, told that the CPU's processes are GPUs; stopped on its way, and whole at the end."""
    script = str(ROOT / "tests" / "support" / "sharded_run.py")
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script]
    sharded = [*launched, *RUN, "training.share_prefix=false"]
    run([*ONE, "training.share_prefix=false"], tmp_path / "one")
    out = tmp_path / "sharded"
    began = out / "runs" / "nca-s0" / "checkpoint-2" / "trainer_state.json"
    assert not ran_until(to(out, sharded), tmp_path / "log", began.is_file)
    assert not (out / "runs" / "nca-s0" / f"checkpoint-{STEPS}").exists()
    run(sharded, out)
    single, double = rows(tmp_path / "one"), rows(out)
    assert single.keys() == double.keys()
    for key, row in single.items():
        if key[0] == "train":
            assert double[key]["response_tokens"] == row["response_tokens"]
            assert double[key]["loss"] == pytest.approx(row["loss"], rel=1e-4)
    close(tmp_path / "one", out, 1e-5)
    last = out / "runs" / "nca-s0" / f"checkpoint-{STEPS}"
    assert (last / "pytorch_model_fsdp.bin").is_file()  # which only sharded weights leave
    again = load(str(last))
    assert again.model.get_output_embeddings().weight is again.model.get_input_embeddings().weight


def test_a_batch_has_to_be_divisible(monkeypatch):
    assert parallel.per_process(64, None) == (64, 1)
    assert parallel.per_process(64, 16) == (16, 4)
    monkeypatch.setattr(parallel, "processes", lambda: 4)
    assert parallel.per_process(64, None) == (16, 1)
    assert parallel.per_process(64, 4) == (4, 4)
    with pytest.raises(UserError, match=r"batch_size = 6 cannot be divided among 4 processes.*multiple of 4"):
        parallel.per_process(6, None)
    with pytest.raises(UserError, match=r"micro_batch = 12.*multiple of 48"):
        parallel.per_process(64, 12)


def test_forward_learns_one_more_call_and_forgets_none():
    model = tiny().model
    ids = torch.tensor([[3, 40, 41]])
    expected = model(input_ids=ids).logits
    parallel.teach_forward(model)
    assert torch.equal(model(input_ids=ids).logits, expected)
    seen: list[nn.Module] = []
    model.register_forward_pre_hook(lambda module, _: seen.append(module))
    assert model(step=lambda: 5) == 5
    assert seen == [model]  # the hooks, in which DDP and FSDP do their work, ran around it


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero3"])
def test_the_launchers_files_say_what_the_launcher_knows(name):
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(ROOT / "training" / "engines" / f"{name}.yaml"))
    assert found.num_processes == 8
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero3": "DEEPSPEED"}
    assert found.distributed_type.value == kinds[name]
    if name == "fsdp2":
        from accelerate.utils import FullyShardedDataParallelPlugin

        known = {f"fsdp_{each}" for each in FullyShardedDataParallelPlugin.__dataclass_fields__} | {
            "fsdp_offload_params",
            "fsdp_version",
        }
        assert set(found.fsdp_config) <= known
