"""Rollouts from a vLLM server, by way of TRL's client (extra ``vllm``), where there are GPUs.

Mental model: the server holds a copy of the student and samples faster than a training process can. Before each step the
student's weights are sent to it and its prefix cache, which belongs to the weights before, is emptied; then it answers
with token ids, and everything after is as with :class:`~training.rollouts.LocalRollouts`. Start it as TRL's client wants:

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config '{"backend": "nccl"}'

A server's draws cannot be repeated: it batches as requests come, and a seed given to it would be every prompt's. So runs
with it resume, but not bit for bit.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from cr_interp.errors import UserError
from cr_interp.generation import Decoding, Response
from cr_interp.models import Loaded
from training.lora import is_adapted, merged, plain_parameters
from training.rollouts import RolloutsLost


class Server(Protocol):
    """What is used of ``trl.generation.vllm_client.VLLMClient``."""

    def generate(self, prompts: list[list[int]], **options: Any) -> dict[str, Any]: ...
    def update_model_params(self, model: Any) -> None: ...
    def reset_prefix_cache(self) -> None: ...


class Named:
    """A model as the server knows it: an adapter's, merged, under the names of its base."""

    def __init__(self, model: nn.Module):
        if is_adapted(model) and model.dtype == torch.bfloat16:
            raise UserError(
                "A vLLM server takes whole weights, and adding an adapter to bfloat16 weights rounds most of it away. Set "
                "training.bf16=false beside training.lora and training.vllm, or sample with the student's own module."
            )
        self._model = model

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, value in plain_parameters(self._model):
            yield name, nn.Parameter(value, requires_grad=False)


class ServerRollouts:
    """Samples from ``server``, whose weights are the student's of this step."""

    def __init__(self, server: Server, decoding: Decoding, attempts: int = 3, pause: float = 5.0):
        self.server, self.decoding, self.attempts, self.pause = server, decoding, attempts, pause

    def sample(
        self, student: Loaded, prompts: Sequence[Sequence[int]], step: int, rows: Sequence[int] | None = None
    ) -> list[Response]:
        """A response per prompt, in order.

        Raises :class:`RolloutsLost` if the server answers none of ``attempts``, and :class:`UserError` if what it answers
        cannot be the student's: another tokenizer's prompts, or ids that the student's vocabulary does not have.
        """
        with merged(student.model):
            weights = Named(student.model)
            self._try("took the student's weights", lambda: self.server.update_model_params(weights))
        self._try("emptied its prefix cache", self.server.reset_prefix_cache)
        chosen = self.decoding
        found = self._try(
            "answered",
            lambda: self.server.generate(
                [list(prompt) for prompt in prompts], max_tokens=chosen.max_new_tokens,
                temperature=chosen.temperature, top_p=chosen.top_p or 1.0, top_k=chosen.top_k or 0, logprobs=None,
            ),
        )  # fmt: skip
        if [list(ids) for ids in found["prompt_ids"]] != [list(prompt) for prompt in prompts]:
            raise UserError(
                "The vLLM server read other prompts than it was sent, so it is not the student's model. Start it with the "
                "model that the study distils."
            )
        responses = [
            Response(tuple(ids), not ids or ids[-1] not in student.eos_ids) for ids in found["completion_ids"]
        ]
        embeddings: Any = student.model.get_input_embeddings()
        highest = max((id for response in responses for id in response.ids), default=0)
        if highest >= (vocabulary := embeddings.weight.shape[0]):
            raise UserError(
                f"The vLLM server answered with token {highest}, and the student's vocabulary has {vocabulary}: it serves "
                f"another model. Start it with the model that the study distils."
            )
        return responses

    def _try(self, what: str, ask: Callable[[], Any]) -> Any:
        """TRL's client itself asks again after a dropped connection; this is for a server that is slow to come back."""
        for attempt in range(1, self.attempts):
            try:
                return ask()
            except Exception:  # TRL's client raises plain ones
                time.sleep(self.pause * attempt)
        try:
            return ask()
        except Exception as error:
            raise RolloutsLost(
                f"The vLLM server no longer {what} ({type(error).__name__}: {error}), {self.attempts} times. Look at its log, "
                f"start it again, and type the same command: the run continues."
            ) from error


def connect(url: str, device: Any, timeout: float = 300.0) -> Server:
    """TRL's client on a running server, ready to take weights from ``device`` over NCCL.

    Raises :class:`UserError` if the extra is not installed, if nothing answers at ``url`` within ``timeout`` seconds, or
    if the server was started without what the transfer of weights needs.
    """
    try:
        from trl.generation.vllm_client import VLLMClient

        client: Any = VLLMClient(base_url=url, connection_timeout=timeout)
    except ImportError as error:
        raise UserError(
            f"Rollouts from a vLLM server need the extra: pip install 'cr-interp[vllm]' ({error})."
        ) from error
    except OSError as error:  # as `requests` calls what a connection can suffer
        raise UserError(f"No vLLM server answers at {url}: {error}") from error
    try:
        client.init_communicator(device)
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f"The vLLM server at {url} cannot take the student's weights: {error}") from error
    return client  # type: ignore[no-any-return]
