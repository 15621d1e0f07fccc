"""Where responses come from during training: one small interface, so that an engine can be swapped.

On-policy distillation samples from the student itself, without the context, at every step. Here the student's
own module does it; an inference server can stand behind the same two lines.
"""

from collections.abc import Sequence
from typing import Protocol

import torch

from cr_interp.generation import Decoding, Response, generate
from cr_interp.models import Loaded


class Rollouts(Protocol):
    """Sample one response per prompt from the student as it is now."""

    def sample(self, student: Loaded, prompts: Sequence[Sequence[int]], step: int) -> list[Response]: ...


class LocalRollouts:
    """Sampling with the student's own module.

    The random numbers of a step depend on (seed, step) alone: a resumed run draws what the uninterrupted one drew.
    """

    def __init__(self, decoding: Decoding, seed: int, prefix_length: int | None = None):
        self.decoding = decoding
        self.seed = seed
        self.prefix_length = prefix_length

    def sample(self, student: Loaded, prompts: Sequence[Sequence[int]], step: int) -> list[Response]:
        generator = torch.Generator(device=student.model.device)
        generator.manual_seed(self.seed * 1_000_003 + step)
        was_training = student.model.training
        student.model.eval()
        try:
            return generate(student, prompts, self.decoding, generator, self.prefix_length)
        finally:
            student.model.train(was_training)
