"""Which models come with the package, and which files are never read as a model. No torch."""

from pathlib import Path

from cr_interp.confined import is_regular
from cr_interp.errors import UserError
from cr_interp.system.text_files import read_json

ORGANISMS = Path(__file__).parent.parent / "organisms"
SMOLLM2 = "smollm2-135m-instruct"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
#: Pickles that training leaves beside the weights (the Trainer's own state); they are never read here.
HARMLESS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state*.pth", "scaler.pt")

#: What a library opens in a model's folder; of these the ones that may be long, and those that hold an object.
READ = (".json", ".safetensors", ".jinja", ".model", ".txt")
LARGE = ("tokenizer.json", "vocab.json")
OBJECTS = ("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json")


def builtin_names() -> list[str]:
    organisms = [path.name for path in sorted(ORGANISMS.iterdir()) if (path / "config.json").is_file()]
    return [f"builtin:organism-{name}" for name in organisms] + [f"builtin:{SMOLLM2}"]


def refuse_pickles(path: Path) -> None:
    """Refuse weights that can only be unpickled: unpickling runs whatever code they hold."""
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


def check_files(path: Path) -> None:
    """Refuse a model's folder whose files are no files, whose JSON is none, or whose index names files elsewhere.

    Links are let be: the hub's own cache is made of them. (Those of a study's checkpoints are looked at by the study.)
    """
    for file in sorted(path.iterdir()):
        if file.suffix in READ and not is_regular(file):
            raise UserError(
                f"{file} is no regular file (a folder, a pipe, or a link to nothing). Save the model again."
            )
        if file.suffix == ".json" and file.name not in LARGE:
            told = read_json(file)
            if not isinstance(told, dict) and file.name in OBJECTS:
                raise UserError(
                    f"{file} has to hold an object; found {type(told).__name__}. Save the model again."
                )
        if file.name.endswith(".safetensors.index.json"):
            places = told.get("weight_map") if isinstance(told, dict) else None
            if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
                raise UserError(f"{file} has no 'weight_map' of names of files. Save the model again.")
            for name in sorted(set(places.values())):
                if Path(name).name != name or not is_regular(path / name):
                    raise UserError(
                        f"{file} names the file {name[:160]!r}, which is not in that folder. Weights are read from the model's "
                        f"own folder only; put them there, or save the model again."
                    )
