"""How an evaluation is set: part of a study's configuration, so nothing here loads torch."""

from typing import Any, Literal

from pydantic import Field, field_validator

from cr_interp.configuration import Strict
from cr_interp.vocabulary import CONTROLS, ContextControl


class Drawn(Strict):
    """A draw of examples: the first ``examples`` of a split in the order of ``seed``."""

    seed: int = Field(ge=0, lt=2**32)
    """Which draw."""
    examples: int = Field(gt=0, le=10**8)
    """How many of it; all, if the split has fewer."""


class Evaluation(Strict):
    """The settings of what is reported, on examples that neither training nor tuning has seen."""

    split: Literal["validation", "test"] = "test"
    """Which examples are asked."""
    examples: int = Field(256, gt=0, le=10**8)
    """How many of them."""
    controls: tuple[ContextControl, ...] = CONTROLS
    """Contexts that are given beside none; those that the task has."""
    temperature: float = Field(0.0, ge=0, le=1e3)
    """0 is greedy, else at least 0.001; with sampling, ``top_k`` is cut first, then ``top_p``."""
    top_k: int | None = Field(None, gt=0, le=10**8)
    """Of sampling: the likeliest tokens that are kept; null: all."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Of sampling: the share of probability that is kept; null: all."""
    samples: int = Field(1, gt=0, le=10**6)
    """Answers to each example, in each view; one with greedy decoding."""
    batch_size: int = Field(64, gt=0, le=10**6)
    """Sequences that are decoded or read together: memory against time."""
    responses: str = "own"
    """What the drift is measured on: each checkpoint's ``own`` no-context responses, or those of the arm named here
    (its first seed), the same for all."""
    mask_sinks: bool = True
    """Leave attention sinks out of the drift (``similarity/sinks.py``); how many there were is in ``n_masked``."""
    permutations: int = Field(199, ge=0, le=10**6)
    """Of the examples, which give the example-level CKA its p (``similarity/permutation.py``); 0: none."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Which examples are drawn; the same for every arm and every training seed."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """Who answers: our own decoding, or vLLM in this process (extra ``vllm``, a GPU). States are read here all the same. A server
    has one model, so behind one ``compare --engine http://…`` asks."""
    leave_out: Drawn | None = None
    """Leave out what this draw of the split has shown before, with everything of its clusters; null: nothing."""

    def told(self) -> dict[str, Any]:
        """List what decides an answer, as plain values, without ``leave_out``, which the data say.

        A later key that is not set is left out too, so that what older studies noted stays the same.
        """
        every: dict[str, Any] = self.model_dump(mode="json", exclude={"leave_out"})
        if self.engine == "transformers":
            del every["engine"]
        return every

    @field_validator("temperature")
    @classmethod
    def _logits_that_stay_numbers(cls, value: float) -> float:
        if 0 < value < 1e-3:
            raise ValueError("logits are divided by it: 0, which is greedy, or at least 0.001")
        return value
