"""The configuration of a study: one YAML file says everything that decides its numbers.

How it is read, and what is refused, is in ``cr_interp/configuration.py``. What is written here is copied whole into the
study's manifest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from cr_interp.configuration import Strict, apply_overrides, read_mapping, validated
from cr_interp.errors import UserError, unknown
from cr_interp.measure.settings import Evaluation
from cr_interp.system.names import Name, Seed, distinct
from cr_interp.views import refuse_taken

CONFIGS = Path(__file__).parent / "configs"
#: More steps, examples or tokens than anybody has, and more rows in a batch: a slip of the finger, or somebody else's.
MOST, MANY = 10**8, 10**6
TASK_FILES = (".yaml", ".yml", ".py")
#: The Trainer's loggers, and the packages of which each needs one; ``all`` are those that are installed.
LOGGERS: dict[str, tuple[str, ...]] = {
    "all": (),
    "none": (),
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": ("kubeflow",),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}


class Lora(Strict):
    """An adapter's shape: W + (alpha / rank) · B·A."""

    rank: int = Field(16, gt=0, le=65536)
    """Of each pair of matrices."""
    alpha: float = Field(32, gt=0, le=1e6)
    """The adapter is scaled by ``alpha / rank``."""
    dropout: float = 0.0
    """0 and nothing else."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of linear maps, such as ``q_proj``; all but the LM head by default."""

    @field_validator("dropout")
    @classmethod
    def _no_dropout(cls, value: float) -> float:
        if value:
            raise ValueError(
                "dropout has to be 0: q_x and q_c of a step must differ by the context alone, not by dropout's noise"
            )
        return value


class Plateau(Strict):
    """A curve is at its plateau where the mean of ``window`` evaluations is less than ``gain`` above the mean of those before."""

    window: int = Field(3, gt=0, le=1000)
    """Evaluations whose mean is taken."""
    gain: float = Field(0.01, gt=0, le=1)
    """Smallest rise that is still one."""


class Training(Strict):
    """One run. Defaults are OPCD's where it says (constant rate, no warm-up, clip 1, weight decay 0.01)."""

    steps: int = Field(100, gt=0, le=MOST)
    """Updates of a run."""
    plateau: Plateau | None = None
    """Stop a run where its accuracy without context has become flat; null: after ``steps``."""
    batch_size: int = Field(64, gt=0, le=MANY)
    """Prompts of an update, one response each."""
    lr: float = Field(3e-4, gt=0, le=100)
    """Learning rate of AdamW, at its highest."""
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up."""
    warmup_steps: int = Field(0, ge=0, le=MOST)
    """Updates in which the learning rate rises from 0."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """Of AdamW."""
    max_grad_norm: float = Field(1.0, gt=0, le=1e30)
    """Gradients with a larger norm are scaled down to it."""
    temperature: float = Field(1.0, ge=1e-3, le=1e3)
    """Of the rollouts; logits are divided by it in the losses too."""
    top_k: int | None = Field(None, gt=0, le=MOST)
    """Support of the losses: the student's no-context top-k, renormalised; null is the full vocabulary."""
    reduction: Literal["token_mean", "sequence_mean"] = "token_mean"
    """``token_mean``: each response token counts once; ``sequence_mean``: each response does."""
    share_prefix: bool = True
    """Compute the context once per batch. Off only to measure what that saves."""
    micro_batch: int | None = Field(None, gt=0, le=MANY)
    """Examples in a forward and backward pass, each a sequence, or one for each of its turns; gradients add up to exactly
    those of the whole batch. null: all."""
    chunk: int | None = Field(None, gt=0, le=MOST)
    """Response tokens whose logits exist at a time (``head.py``); null: those of all. 1024 suits a real vocabulary."""
    gradient_checkpointing: bool = False
    """Keep one state per token and layer, and compute the rest of a layer again in the backward pass."""
    bf16: bool = False
    """Matrix products in bfloat16, and weights that are not trained; what is trained and the losses stay float32."""
    lora: Lora | None = None
    """Train an adapter instead of the weights; null: full fine-tuning."""
    vllm: str | None = Field(None, pattern="^https?://")
    """Address of a vLLM server that samples the responses (``vllm_rollouts.py``); null: the student's own module."""
    eval_every: int = Field(25, gt=0, le=MOST)
    """Updates between two looks at the validation examples."""
    eval_examples: int = Field(64, gt=0, le=MOST)
    """Validation examples of such a look, in both views."""
    save_every: int = Field(25, gt=0, le=MOST)
    """Updates between two checkpoints."""
    keep_checkpoints: int = Field(2, gt=0, le=MOST)
    """How many of a run's last checkpoints stay on disk."""

    @field_validator("micro_batch")
    @classmethod
    def _micro_batches_make_a_batch(cls, value: int | None, info: ValidationInfo) -> int | None:
        batch_size = info.data.get("batch_size")
        if value is not None and batch_size is not None and batch_size % value:
            raise ValueError(f"micro_batch has to divide batch_size, which is {batch_size}")
        return value


class StudyConfig(Strict):
    """One task, context, base model and teacher, with several arms × seeds."""

    name: Name
    """Of the study's folder."""
    task: str
    """A name, or a file of your own: a description (``.yaml``) or Python (``.py``, which is executed)."""
    model: str
    """Base model, which is the student at first: a folder, a hub id, or a built-in (``builtin:organism-rules``)."""
    teacher: str | None = None
    """null: the frozen initial student."""
    no_context: Literal["empty_system", "template_default"] = "empty_system"
    """What a prompt without the context is behind: ``empty_system`` an empty system message, ``template_default`` whatever
    the chat template puts there."""
    template: dict[str, bool | int | str] = Field(default_factory=dict)
    """Variables of the chat template, such as ``enable_thinking``; fixed in every tokenizer of the study."""
    context_cap: int | None = Field(None, gt=0, le=MOST)
    """Longest exact context, in tokens; a longer one is refused, never cut. null: what the model's positions hold."""
    max_new_tokens: int | None = Field(None, gt=0, le=MOST)
    """Longest response, of a turn in a game; null: the task's own."""
    max_turns: int = Field(1, gt=0, le=MANY)
    """Of an episode; 1 is a question and its answer."""
    arms: Annotated[tuple[Name, ...], AfterValidator(distinct)] = Field(("opd", "nca"), min_length=1)
    """Objectives that are trained, built in or of ``own_arms``; ``base``, which is not trained, is always measured."""
    own_arms: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    """Arms of your own: a name and its terms."""
    seeds: Annotated[tuple[Seed, ...], AfterValidator(distinct)] = Field((0, 1, 2), min_length=1)
    """One run each, of every arm."""
    threads: int = Field(1, gt=0, le=4096)
    """Of each run: part of the configuration, since results are bit-identical only at equal thread counts."""
    training: Training = Training()
    """How a run is trained."""
    evaluation: Evaluation = Evaluation()
    """What is reported of every run."""
    report_to: tuple[str, ...] = ()
    """Loggers of the Trainer that also get the log's rows, such as tensorboard, wandb, trackio."""
    every_step: bool = False
    """Also measure the checkpoints that a run keeps on its way: when did the drift emerge?"""

    @field_validator("report_to")
    @classmethod
    def _loggers_that_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in LOGGERS:
                raise ValueError(f"there is no logger '{name[:40]}'; there are {', '.join(LOGGERS)}")
        return value

    @field_validator("template")
    @classmethod
    def _variables_of_its_own(cls, value: dict[str, bool | int | str]) -> dict[str, bool | int | str]:
        refuse_taken(value)
        return value

    @field_validator("own_arms")
    @classmethod
    def _names_that_are_not_taken(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for taken, by in (("base", "the model before training"), ("own", "responses: own")):
            if taken in value:
                raise ValueError(f"'{taken}' already stands for {by}; call the arm otherwise")
        return value


def config_names() -> list[str]:
    """List names as ``load_config`` takes them, such as ``organism-shift`` or ``suite/rules-llama``."""
    return sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))


def load_config(name_or_path: str, overrides: list[str] | None = None) -> StudyConfig:
    """Read a configuration by its name in ``training/configs`` or by path, and apply ``key=value`` overrides.

    Keys are dotted (``training.lr=1e-4``); a key of ``training`` may be given without its section.
    """
    path = Path(name_or_path)
    if not path.is_file():
        if name_or_path not in config_names():
            raise unknown("configuration", name_or_path, config_names())
        path = CONFIGS / f"{name_or_path}.yaml"
    data = _with_task_beside(read_mapping(path), path.parent)
    apply_overrides(StudyConfig, data, overrides or [], short="training")
    return validated(StudyConfig, data, path)


def setting_names() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "suite").glob("*.yaml"))


def suite_configs(
    settings: Sequence[str] = (), arms: Sequence[str] = (), overrides: Sequence[str] = ()
) -> dict[str, StudyConfig]:
    """Return the configurations of these settings (all if none are named), cut to these arms.

    A setting that has none of the arms is left out, since only some settings run the ablations.
    """
    known = setting_names()
    for name in settings:
        if name not in known:
            raise unknown("setting", name, known)
    found = {}
    for name in settings or known:
        config = load_config(f"suite/{name}", list(overrides))
        kept = tuple(arm for arm in config.arms if not arms or arm in arms)
        if kept:
            found[name] = config.model_copy(update={"arms": kept})
    if not found:
        raise UserError(f"None of these settings has an arm among {', '.join(arms)}.")
    return found


def _with_task_beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Look for a task file here and, if it is not, beside the configuration that names it."""
    task = data.get("task")
    if isinstance(task, str) and Path(task).suffix in TASK_FILES and not Path(task).exists():
        beside = folder / task
        return {**data, "task": str(beside)} if beside.exists() else data
    return data
