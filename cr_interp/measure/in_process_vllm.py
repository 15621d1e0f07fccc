"""Answers by vLLM in this process (extra ``vllm``): the same prompts as ids, the same rows, many times as fast on a GPU.

Mental model. Only the sampling is vLLM's. Prompts are rendered here, so what comes back are ids like our own, and states are read
from the model that is loaded here: aligned positions stay what they are. Greedy answers may part from ours where two tokens are
equally likely to rounding; sampled ones are drawn with vLLM's own numbers, so they do not repeat those of the other engine.
"""

from collections.abc import Sequence
from typing import Any

from cr_interp.errors import UserError
from cr_interp.models.generation import Decoding, Response
from cr_interp.models.loading import Loaded, resolve

#: Of the device's memory, since the model that states are read from is there as well.
SHARE = 0.5


class InProcessVllm:
    """vLLM on one checkpoint, made when it is first asked; options go to ``vllm.LLM``."""

    def __init__(self, model: str, **options: Any) -> None:
        self.model, self.options = model, options
        self._engine: Any = None

    def sample(
        self, loaded: Loaded, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int
    ) -> list[Response]:
        """Sample a response per prompt, in order.

        Raises :class:`UserError` if vLLM is missing or cannot load the model, and for ids that the model does not have.
        """
        vllm = _library()
        if self._engine is None:
            try:
                chosen = {"dtype": dtype_of(loaded), "gpu_memory_utilization": SHARE, **self.options}
                self._engine = vllm.LLM(model=self.model, seed=0, **chosen)
            except Exception as error:  # vLLM raises whatever its parts raise
                said = " ".join(str(error).split())[:300]
                raise UserError(
                    f"vLLM could not load {self.model} ({type(error).__name__}: {said}). Give a folder or hub id that it can "
                    f"read, or leave --engine out."
                ) from error
        sampling = [
            vllm.SamplingParams(
                max_tokens=decoding.max_new_tokens,
                temperature=decoding.temperature,
                top_p=decoding.top_p or 1.0,
                top_k=decoding.top_k or -1,
                stop_token_ids=list(loaded.eos_ids),
                detokenize=False,
                **({"seed": (seed + place) % 2**31} if decoding.temperature > 0 else {}),
            )
            for place in range(len(prompts))
        ]
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = self._engine.generate(asked, sampling, use_tqdm=False)
        ids = [tuple(int(id) for id in each.outputs[0].token_ids) for each in found]
        if len(ids) != len(prompts) or max((max(each, default=0) for each in ids), default=0) >= len_vocabulary(
            loaded
        ):
            raise UserError("vLLM answered with ids that the model here does not have: it loaded another model.")
        return [Response(each, not each or each[-1] not in loaded.eos_ids) for each in ids]


def engine_for(engine: str, where: str) -> InProcessVllm | None:
    """Find who answers for the model that is called ``where``, besides our own decoding; None for that."""
    return InProcessVllm(str(resolve(where))) if engine == "vllm" else None


def dtype_of(loaded: Loaded) -> str:
    """Return the weights' own dtype, so that both engines round alike."""
    return str(next(loaded.model.parameters()).dtype).removeprefix("torch.")


def len_vocabulary(loaded: Loaded) -> int:
    """Count the rows of the model's head."""
    return int(loaded.model.get_output_embeddings().weight.shape[0])


def _library() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise UserError(
            f"--engine vllm needs the package vllm, on a machine with a GPU: pip install 'cr-interp[vllm]' ({error})."
        ) from error
    return vllm
