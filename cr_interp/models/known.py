"""Which models come with the package, and which files are never read as weights. No torch."""

from pathlib import Path

from cr_interp.errors import UserError

ORGANISMS = Path(__file__).parent.parent / "organisms"
SMOLLM2 = "smollm2-135m-instruct"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
#: Pickles that training leaves beside the weights (the Trainer's own state); they are never read here.
HARMLESS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state*.pth", "scaler.pt")


def builtin_names() -> list[str]:
    organisms = [path.name for path in sorted(ORGANISMS.iterdir()) if (path / "config.json").is_file()]
    return [f"builtin:organism-{name}" for name in organisms] + [f"builtin:{SMOLLM2}"]


def refuse_pickles(path: Path) -> None:
    """Weights that can only be unpickled are not loaded: unpickling runs whatever code they hold."""
    if any(path.glob("*.safetensors")):
        return
    pickled = [
        f.name for pattern in PICKLED for f in sorted(path.glob(pattern)) if not any(map(f.match, HARMLESS))
    ]
    if pickled:
        raise UserError(
            f"{path} holds pickled weights ({', '.join(pickled)}) and no safetensors. Reading a pickle can run "
            f"any code, so it is refused. Save the model with save_pretrained (which writes safetensors) first."
        )
