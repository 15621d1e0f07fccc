"""Which configurations continue a study."""

from training.config import load_config
from training.pipeline import different


def test_an_older_study_is_continued_with_what_are_the_defaults_now():
    config = load_config("organism-shift").model_dump(mode="json")
    older = {
        **config,
        "training": {k: v for k, v in config["training"].items() if k in ("steps", "batch_size", "lr")},
    }
    assert different(older, config) == []
    lora = load_config("organism-shift", ["training.lora.rank=4"]).model_dump(mode="json")
    assert different(older, lora) == ["training"]
