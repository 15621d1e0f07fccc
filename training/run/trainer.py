"""The regularised distillation, on ``transformers.Trainer``.

One step: sample responses from the student without context; run student and teacher on those responses in the
views that the arm's terms name; take the exact KLs at the aligned positions (``step.py``). Everything else (optimiser,
schedule, clipping, checkpoints, resume, distributed engines) is the Trainer's.

Three things are added to it: the micro-batches of a step share one rollout and one mean over all its tokens, a
checkpoint appears whole or not at all, and each step and each evaluation is a row of ``train.jsonl``.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cr_interp.errors import NotFinite, UserError
from cr_interp.files import append_jsonl
from cr_interp.models.adapters import check_resumed
from cr_interp.models.devices import chosen_device, place
from cr_interp.models.forward import device_of
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import is_sharded
from cr_interp.models.weights import load_whole
from cr_interp.study.places import log_of
from cr_interp.system.disk import disk_trouble
from cr_interp.views import shared_prefix
from training.objectives import Term
from training.run import parallel
from training.run.checkpoints import STAGING, checkpoints, keep_last, latest_checkpoint, put_in_place, seal
from training.run.episodes import Episodes, Pair, ask
from training.run.lora import is_adapted, save_adapter
from training.run.losses import Whole
from training.run.noise import check_repeatable, switch_dropout_off
from training.run.peak import read_peak, start_peak
from training.run.plateau import final_step
from training.run.recompute import recompute_layers
from training.run.rollouts import Rollouts, RolloutsLost
from training.run.step import Prompt, Reader
from training.settings import Training

__all__ = ["DistillTrainer", "checkpoints", "latest_checkpoint"]


class DistillTrainer(Trainer):
    """``Trainer`` for objectives over views. ``prompts`` are used in order, one batch a step; with ``episodes`` each is the
    first of several turns, and all turns are learned from in the same update."""

    def __init__(
        self,
        student: Loaded,
        teacher: Loaded,
        prompts: Sequence[Prompt],
        terms: Sequence[Term],
        rollouts: Rollouts,
        config: Training,
        run_path: Path,
        seed: int = 0,
        evaluate: Callable[[Loaded], dict[str, float | None]] | None = None,
        callbacks: Sequence[Any] = (),
        episodes: Episodes | None = None,
        **arguments: Any,
    ):
        self.student, self.teacher = student, teacher
        self.prompts, self.terms, self.rollouts, self.config = prompts, terms, rollouts, config
        self.run_path = run_path
        self.episodes = episodes
        self._evaluate_views = evaluate
        self._row: dict[str, Any] = {}
        # The step at hand: its examples, and, once its first micro-batch asks, what was said in each.
        self._indices: list[int] = []
        self._pairs: dict[int, list[Pair]] = {}
        self._whole: Whole | None = None
        self._peak_is_of_step = False
        self._step_started = time.perf_counter()
        self._staging: Path | None = None
        # At the last step the Trainer asks twice for an evaluation and a checkpoint; once is enough.
        self._evaluated: tuple[int, dict[str, float]] | None = None
        self._saved_step: int | None = None
        for loaded in (student, teacher):
            switch_dropout_off(loaded.model)
        check_repeatable(student.model)
        if teacher.model is not student.model:
            teacher.model.requires_grad_(False)
        if config.gradient_checkpointing:
            recompute_layers(student.model)
        # Found once over all prompts, so that the frozen teacher's prefix is the same at every step.
        share = shared_prefix if config.share_prefix else (lambda _: 0)
        starts = [*prompts, *([episodes.start] if episodes else [])]
        self._prefix_x = share([prompt.no_context for prompt in starts])
        self._prefix_c = share([prompt.with_context for prompt in starts])
        self.reader = Reader(student, teacher, terms, config, self._prefix_x, self._prefix_c)
        rows, times = parallel.per_process(config.batch_size, config.micro_batch)
        parallel.teach_forward(student.model)
        args = TrainingArguments(
            output_dir=str(run_path),
            max_steps=config.steps,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=times,
            learning_rate=config.lr,
            lr_scheduler_type=config.schedule,
            warmup_steps=config.warmup_steps,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            adam_beta1=0.9,
            adam_beta2=0.999,
            optim="adamw_torch_fused",
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=config.save_every,
            eval_strategy="steps" if evaluate else "no",
            eval_steps=config.eval_every,
            eval_on_start=evaluate is not None,
            seed=seed,
            report_to=arguments.pop("report_to", "none"),
            use_cpu=chosen_device().type == "cpu",
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            ddp_find_unused_parameters=False,
            **arguments,
        )
        # A process has one GPU. The Trainer would spread the batch over all that it sees, and multiply it by their number.
        args._n_gpu = min(args.n_gpu, 1)
        super().__init__(
            model=student.model,
            args=args,
            train_dataset=list(range(len(prompts))),  # type: ignore[arg-type]
            eval_dataset=[0],  # type: ignore[arg-type]  # never read; the Trainer insists on one
            data_collator=lambda indices: {"index": torch.tensor(indices)},
            callbacks=list(callbacks),
        )
        if teacher.model is not student.model:
            place(teacher, self.args.device)  # where the Trainer has the student
        self.callback_handler.callbacks = [
            each for each in self.callback_handler.callbacks if type(each).__name__ != "PrinterCallback"
        ]

    # -- one step ------------------------------------------------------------------------------------------

    loss_is_scaled_for_ga = True  # a micro-batch's loss is its share of the step's mean, not a mean of its own

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """Return all micro-batches of a step, so that what they share is known before the first one runs."""
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._indices = [index for batch in found[0] for index in batch["index"].tolist()]
        self._pairs = {}
        return found

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not self._pairs:
            if self.config.share_prefix and is_sharded(self.student.model):
                raise UserError(
                    "Sharded weights (FSDP, ZeRO-3) need training.share_prefix=false: the shared prefix's keys and values leave "
                    "a layer beside its output, where nothing sees their gradient come back. DDP and LoRA keep the prefix."
                )
            self._begin_step()
        pairs = [pair for i in inputs["index"].tolist() for pair in self._pairs[i]]
        batch, responses = [prompt for prompt, _ in pairs], [said for _, said in pairs]
        result = parallel.inside(
            model, lambda: self.reader.losses(self.student.model, batch, responses, self._whole)
        )
        if not torch.isfinite(result.total):
            self._refuse_nan(f"the loss is {result.total.item()}", batch)
        add(self._row["terms"], {name: value.item() for name, value in result.terms.items()})
        # Summed over tokens here and divided in the log: shares would add up to a little less than 1.
        add(self._row["topk_mass"], {name: sum(map(len, responses)) * m for name, m in result.mass.items()})
        # The shares of all processes add up to the step's means, and their gradients are averaged: hence the factor.
        total = result.total * parallel.processes()
        return (total, {}) if return_outputs else total

    def _begin_step(self) -> None:
        """Sample for the whole step, so that its responses do not depend on how it is divided."""
        self._step_started = time.perf_counter()
        self._peak_is_of_step = start_peak(device_of(self.student.model))
        batch, step = [self.prompts[i] for i in self._indices], self.state.global_step
        rows = [i % self.config.batch_size for i in self._indices]
        try:
            if self.episodes is None:
                sampled = ask(self.student, self.rollouts, batch, step, rows)
            else:
                sampled = self.episodes.play(self.student, self.rollouts, self._indices, step, rows)
        except NotFinite:
            self._refuse_nan("the student's logits are not finite", batch)
        except RolloutsLost:
            self._save_checkpoint(self.student.model, trial=None)  # all that was trained so far
            raise
        self._pairs = dict(zip(self._indices, sampled, strict=True))
        mine = Whole.of([said for pairs in sampled for _, said in pairs])
        counts = parallel.summed(
            {"tokens": mine.tokens, "sequences": mine.sequences}, device_of(self.student.model)
        )
        self._whole = Whole(int(counts["tokens"]), int(counts["sequences"]))
        self._row = {"terms": {}, "topk_mass": {}, "response_tokens": self._whole.tokens}

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and not torch.isfinite(torch.as_tensor(norm)):
            self._refuse_nan(f"the gradient norm is {float(norm)}", [])
        return norm

    def _refuse_nan(self, what: str, batch: Sequence[Prompt]) -> NoReturn:
        last = latest_checkpoint(self.run_path)
        first = f" The first prompt of its batch: {batch[0].text[:200]!r}." if batch else ""
        raise UserError(
            f"Step {self.state.global_step + 1}: {what}, so training stopped before the update.{first} The last good "
            f"checkpoint is kept ({last or 'none was written yet'}). Lower the learning rate and resume or restart."
        )

    # -- what the Trainer asks for -------------------------------------------------------------------------

    def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a training step's log line as a row of ``train.jsonl``."""
        if "loss" in logs and self._row:
            seconds = time.perf_counter() - self._step_started
            tokens = self._row["response_tokens"]
            device = device_of(self.student.model)
            self._row |= {name: parallel.summed(self._row[name], device) for name in ("terms", "topk_mass")}
            row = {
                "kind": "train",
                "step": self.state.global_step,
                "loss": logs["loss"],
                **self._row,
                "topk_mass": {name: mass / tokens for name, mass in self._row["topk_mass"].items()},
                "grad_norm": float(logs.get("grad_norm", float("nan"))),
                "learning_rate": logs.get("learning_rate"),
                "tokens_per_second": tokens / seconds,
                "seconds": seconds,
                **read_peak(device, self._peak_is_of_step),
            }
            self._append(row)
            if self.args.report_to:
                logs = {**logs, **flat({"tokens": tokens, "terms": row["terms"], "topk_mass": row["topk_mass"]})}
            self._row = {}
        super().log(logs, start_time)

    def _append(self, row: dict[str, Any]) -> None:
        if parallel.is_main():
            append_jsonl(log_of(self.run_path), row)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """Evaluate both views on validation examples, as a row of ``train.jsonl``. Changes nothing in the run's randomness."""
        assert self._evaluate_views is not None
        step = self.state.global_step
        if self._evaluated is not None and self._evaluated[0] == step:
            return self._evaluated[1]
        self.student.model.eval()
        measure = self._evaluate_views
        found = parallel.gathering(self.student.model, lambda: measure(self.student))
        self._append({"kind": "eval", "step": self.state.global_step, **found})
        if self.config.plateau and final_step(self.run_path, self.config) == step:
            self.control.should_save = self.control.should_training_stop = True
        self._evaluated = step, {f"eval_{name}": value for name, value in found.items() if value is not None}
        if self.args.report_to:
            self.log(dict(self._evaluated[1]))
        return self._evaluated[1]

    # -- checkpoints that appear whole -------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._saved_step == self.state.global_step:
            return
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        final = self.run_path / name
        try:
            self._staging = self.run_path / f"{STAGING}{name}"
            with parallel.main_first():
                self._staging.mkdir(exist_ok=True)
            super()._save_checkpoint(model, trial)
            parallel.wait()
            if parallel.is_main():
                seal(self._staging / name, self.state.global_step)
                put_in_place(self._staging / name, final)
            parallel.wait()
        except Exception as error:
            if isinstance(error, UserError):
                raise
            # Before the clean-up, while what is half-written still takes the room that was lacking.
            trouble = disk_trouble(error, self.run_path, self._checkpoint_bytes())
            if trouble is None:
                raise
            raise UserError(
                f"Could not write the checkpoint of step {self.state.global_step} to {self.run_path} ({trouble}). Earlier "
                f"checkpoints and train.jsonl are kept; free some space or make the folder writable, then resume."
            ) from error
        finally:
            if self._staging is not None and parallel.is_main():
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        self._saved_step = self.state.global_step
        if parallel.is_main():
            keep_last(self.run_path, self.state.global_step, self.config.keep_checkpoints)

    def _checkpoint_bytes(self) -> int:
        """Estimate how large a checkpoint is: the weights, and two numbers of the optimizer for each that is trained."""
        sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in self.student.model.parameters()]
        return sum(size * (3 if trained else not is_adapted(self.student.model)) for size, trained in sizes)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Put a checkpoint's weights back, all of them. The Trainer only warns of those that are missing, and it asks for the
        model's own names, where some models (of experts, of text and images) are saved under others.

        Raises :class:`UserError` for a checkpoint that does not hold what the model has.
        """
        folder, student = Path(resume_from_checkpoint), self.student.model
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # shards in files of their own, read strictly
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        try:
            if is_adapted(student):
                super()._load_from_checkpoint(resume_from_checkpoint, model)
                check_resumed(folder, student)
            else:
                whole = load_whole(folder, next(student.parameters()).dtype)
                student.load_state_dict(whole.state_dict())
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise UserError(
                f"The run cannot go on from {folder}: {' '.join(str(error).split())[:300]}. Remove that checkpoint to go on from "
                f"the one before it, or the run's folder to begin again."
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save weights, or the adapter's, and the tokenizer only. The Trainer would add a pickle of its arguments, which
        nothing here reads.
        """
        target = output_dir or str(self.run_path)
        if is_adapted(self.student.model):
            save_adapter(self.student.model, target, state_dict)
        else:
            self.student.model.save_pretrained(target, state_dict=state_dict)
        self.student.tokenizer.save_pretrained(target)


def flat(values: Mapping[str, Any]) -> dict[str, float]:
    """Flatten nested numbers to names with a slash, as loggers group them."""
    return {
        (f"{name}/{inner}" if inner else name): number
        for name, value in values.items()
        for inner, number in (value if isinstance(value, dict) else {"": value}).items()
    }


def add(sums: dict[str, float], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value
