"""What happens to a student when its context returns, while it is trained by any ``transformers.Trainer``, TRL's included.

    from cr_interp.integrations.callback import watch

    trainer = SFTTrainer(…)                                  # or any other, as it is
    watch(trainer, rows, context="You are …", every=10, study="studies/mine")
    trainer.train()

Every N steps the model answers a few examples in both views: ``acc_x``, ``acc_xc``, ``harm`` (where rows have an ``answer``),
``fidelity``, ``invariance``, ``length``, ``min_cosine``. They go to the trainer's own loggers under ``cr_interp/``, and into a
study on disk that the workbench's Training page follows while it grows (``cr-interp app mine``).

Mental model. A reading changes nothing of the training: it draws no random number, leaves the model in the mode it was in, and
whatever fails in one is said and does not stop the run. What is wrong with the examples is said before the first step. On
several processes the first one reads; weights that are sharded (FSDP, ZeRO-3) are not gathered for it, and that is said.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import Trainer, TrainerCallback

from cr_interp.errors import UserError
from cr_interp.models.forward import check_head
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import is_sharded
from cr_interp.system.notes import say
from cr_interp.tasks.graders import contains
from cr_interp.views import Context, NoContext

from .asked import asked, has_template
from .live import LiveStudy
from .reading import Grader, Views

#: After so many readings that failed one after the other there are no more.
PATIENCE = 3
#: In front of the names in the trainer's loggers.
PREFIX = "cr_interp/"


def watch(trainer: Trainer, rows: Sequence[Mapping[str, Any]], **options: Any) -> "TwoViews":
    """Add a :class:`TwoViews` to a trainer that has been made, and let it log where the trainer logs."""
    callback = TwoViews(rows, **options)
    callback.trainer = trainer
    trainer.add_callback(callback)
    return callback


class TwoViews(TrainerCallback):
    """Reads both views of a few examples every N steps. :func:`watch` adds it to a trainer.

    ``rows``: mappings with ``prompt``, perhaps ``answer``, and perhaps a ``context`` (or ``privileged_context``) of their own;
    ``context``: what stands there for all (``asked.py`` says in which forms, and what ``no_context`` and ``as_text`` do to a
    prompt), ``template``: TRL's ``teacher_prompt_template``.
    ``every``: steps between readings; ``study``: a folder to keep them in, with ``arm`` and ``seed`` as its names.
    ``grade``: a grader of ``cr_interp.tasks.graders``, by default whether the answer occurs. ``teacher``: whom fidelity is to. By
    default that is the base under an adapter, else nobody; ``"start"`` keeps a copy of the model as it is before the first step.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        context: Context | str | None = None,
        every: int = 10,
        study: str | Path | None = None,
        arm: str = "mine",
        seed: int = 0,
        max_new_tokens: int = 32,
        template: str | None = None,
        no_context: NoContext = "empty_system",
        as_text: bool = False,
        grade: Grader = contains,
        teacher: nn.Module | Literal["start"] | None = None,
    ) -> None:
        if every < 1 or max_new_tokens < 1:
            raise UserError(f"'every' and 'max_new_tokens' are at least 1; found {every} and {max_new_tokens}.")
        self.rows, self.context, self.template, self.no_context = rows, context, template, no_context
        self.as_text = as_text
        self.every, self.max_new_tokens, self.grade = every, max_new_tokens, grade
        self.trainer: Trainer | None = None
        self._asked_teacher = teacher
        self._teacher: Loaded | None = None
        self._study = None if study is None else LiveStudy(Path(study), arm, seed)
        self._views: Views | None = None
        self._loaded: Loaded | None = None
        self._failed = 0
        self._read_at: int | None = None
        self.readings: list[dict[str, float | None]] = []

    # -- what the trainer calls ----------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Look at the examples, and read once before the first step."""
        if not state.is_world_process_zero:
            return
        tokenizer = given.get("processing_class") or given.get("tokenizer")
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor for images and text
        if tokenizer is None:
            raise UserError("The trainer has no tokenizer. Give it one: processing_class=tokenizer.")
        model = _bare(given["model"])
        if is_sharded(model):
            say("The weights are sharded, so both views are not read while training (FSDP, ZeRO-3).")
            return
        if not has_template(tokenizer):
            say("The tokenizer has no chat template: both views are plain texts, the context before the prompt.")
        check_head(model)
        examples = asked(tokenizer, self.rows, self.context, self.template, self.no_context, self.as_text)
        self._views = Views(examples, self.max_new_tokens, self.grade)
        self._loaded = Loaded(str(getattr(model.config, "_name_or_path", "") or "model"), model, tokenizer)
        self._choose_teacher()
        if self._study is not None:
            self._study.begin(self._loaded, args, state, examples, self.max_new_tokens, self.every)
        self._read(state.global_step, first=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Read, if this step is one of every N."""
        if self._views is not None and state.global_step % self.every == 0:
            self._read(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Keep what the trainer says of a step, so that the study has its loss beside the readings."""
        if self._study is not None and self._views is not None and logs:
            study, step = self._study, state.global_step
            self._keep(step, lambda: study.trained(step, logs))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Read once more, and finish the study."""
        if self._views is None:
            return
        self._read(state.global_step)
        if self._study is not None:
            self._keep(state.global_step, self._study.end)

    # -- reading -------------------------------------------------------------------------------------------

    def _choose_teacher(self) -> None:
        loaded, chosen = self._loaded, self._asked_teacher
        assert loaded is not None
        if chosen == "start":
            copy = deepcopy(loaded.model).requires_grad_(False).eval()
            self._teacher = Loaded(f"{loaded.name}, before the first step", copy, loaded.tokenizer)
        elif isinstance(chosen, nn.Module):
            self._teacher = Loaded("teacher", _bare(chosen), loaded.tokenizer)
        elif hasattr(loaded.model, "disable_adapter"):
            self._teacher = loaded

    def _read(self, step: int, first: bool = False) -> None:
        if self._read_at == step or self._failed >= PATIENCE:
            return
        assert self._views is not None
        assert self._loaded is not None
        off: Callable[[], AbstractContextManager] = nullcontext
        if self._teacher is self._loaded:
            off = self._loaded.model.disable_adapter  # type: ignore[operator, assignment]
        try:
            with _still(self._loaded.model):
                numbers, rows = self._views.read(self._loaded, self._teacher, off)
        except Exception as error:  # somebody's own grader raises what it likes
            if first and not isinstance(error, RuntimeError):
                raise
            self._failed += 1
            said = " ".join(str(error).split())[:300]
            more = "; there will be no more" if self._failed >= PATIENCE else ""
            say(f"Both views could not be read at step {step} ({said}){more}. The training goes on.")
            return
        self._failed, self._read_at = 0, step
        self.readings.append({"step": float(step), **numbers})
        if self._study is not None:
            study = self._study
            self._keep(step, lambda: study.read(step, numbers, rows, first))
        if self.trainer is not None:
            known = {f"{PREFIX}{name}": value for name, value in numbers.items() if value is not None}
            due = self.trainer.control.should_log
            # Not its own log: TRL's empties what it has gathered for its next one. Whoever logs counts as having logged.
            Trainer.log(self.trainer, known)
            self.trainer.control.should_log = due

    def _keep(self, step: int, write: Callable[[], None]) -> None:
        """Write into the study; a disk that is full, or somebody else's lock, is said once and ends the study alone."""
        try:
            write()
        except (UserError, OSError) as error:
            self._study = None
            said = " ".join(str(error).split())[:300]
            say(
                f"The study could not be written at step {step} ({said}); it is not written any more. The training goes on."
            )


def _bare(model: Any) -> Any:
    """Return the model without what engines and compilers have put around it; an adapter stays."""
    return extract_model_from_parallel(model, keep_fp32_wrapper=False, keep_torch_compile=False)


@contextmanager
def _still(model: nn.Module) -> Any:
    """Run the block without gradients, dropout, or any random number that training would have drawn; afterwards all is as it
    was.
    """
    modes = {module: module.training for module in model.modules()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
