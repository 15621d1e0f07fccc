"""Where responses come from during training: one small interface, so that an engine can be swapped.

On-policy distillation samples from the student itself, without the context, at every step. Here the student's
own module does it; an inference server can stand behind the same two lines.
"""

from collections.abc import Sequence
from typing import Protocol

from cr_interp.errors import UserError
from cr_interp.models.generation import Decoding, Response, generate, noise
from cr_interp.models.loading import Loaded
from training.run.lora import merged
from training.run.parallel import gathering
from training.run.precision import precision


class Rollouts(Protocol):
    """Sample one response per prompt from the student as it is now; ``rows`` are the prompts' places in the step's batch, if
    this is a part of it."""

    def sample(
        self, student: Loaded, prompts: Sequence[Sequence[int]], step: int, rows: Sequence[int] | None = None
    ) -> list[Response]: ...


class RolloutsLost(UserError):
    """There are no more responses to be had; what was trained so far is sound and can be saved."""


class LocalRollouts:
    """Sampling with the student's own module.

    The random numbers of a prompt depend on (seed, step, row) alone: a resumed run draws what the uninterrupted one drew,
    and several processes draw together what one would have drawn. An adapter is merged into its base meanwhile.
    """

    def __init__(self, decoding: Decoding, seed: int, prefix_length: int | None = None, bf16: bool = False):
        self.decoding = decoding
        self.seed = seed
        self.prefix_length = prefix_length
        self.bf16 = bf16

    def sample(
        self, student: Loaded, prompts: Sequence[Sequence[int]], step: int, rows: Sequence[int] | None = None
    ) -> list[Response]:
        places = range(len(prompts)) if rows is None else rows
        uniform = noise(self.seed * 1_000_003 + step, places, self.decoding.max_new_tokens)
        was_training = student.model.training
        student.model.eval()
        try:
            with merged(student.model), precision(self.bf16, student.model):
                return gathering(
                    student.model,
                    lambda: generate(student, prompts, self.decoding, uniform, self.prefix_length),
                )
        finally:
            student.model.train(was_training)
