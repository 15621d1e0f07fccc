"""Rollouts from a vLLM server, by way of TRL's client (extra ``vllm``), where there are GPUs.

Mental model: the server holds a copy of the student and samples faster than a training process can. Before each step the
student's weights are sent to it and its prefix cache, which belongs to the weights before, is emptied; then it answers
with token ids, and everything after is as with :class:`~training.run.rollouts.LocalRollouts`. Start it as TRL's client wants:

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config '{"backend": "nccl"}'

A server's draws cannot be repeated: it batches as requests come, and a seed given to it would be every prompt's. So runs
with it resume, but not bit for bit.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cr_interp.errors import UserError
from cr_interp.models.forward import device_of, vocabulary
from cr_interp.models.generation import Decoding, Response
from cr_interp.models.loading import Loaded
from cr_interp.models.shards import is_partitioned, is_sharded, whole
from training.run import parallel
from training.run.lora import is_adapted, merged, plain_parameters
from training.run.rollouts import RolloutsLost


class Server(Protocol):
    """The part that is used of ``trl.generation.vllm_client.VLLMClient``."""

    def generate(self, prompts: list[list[int]], **options: Any) -> dict[str, Any]: ...
    def update_named_params(
        self, metadata: list[tuple[str, str, list[int]]], named_params: Iterator[tuple[str, Tensor]]
    ) -> None: ...
    def reset_prefix_cache(self) -> None: ...


Weights = list[tuple[str, Tensor]]
"""Names as the server knows them, those of the base if there is an adapter."""


def gathered_weights(model: nn.Module) -> Weights:
    """Gather a (merged) model's whole weights; every process has to ask, and only the main one is told.

    Weights that are whole already are not copied; sharded ones are, into the main process's memory.

    Raises :class:`UserError` where they cannot be had exactly: an adapter in bfloat16 or in shards, and ZeRO-3's parts.
    """
    if is_adapted(model) and model.dtype == torch.bfloat16:
        raise UserError(
            "A vLLM server takes whole weights, and adding an adapter to bfloat16 weights rounds most of it away. Set "
            "training.bf16=false beside training.lora and training.vllm, or sample with the student's own module."
        )
    if is_partitioned(model) or (is_adapted(model) and is_sharded(model)):
        found = "ZeRO-3" if is_partitioned(model) else "an adapter in shards"
        raise UserError(
            f"A vLLM server takes whole weights, and {found} is not put together for it here. Leave training.vllm out, or take "
            f"FSDP2 for full fine-tuning and DDP for an adapter."
        )
    sharded, found_weights = is_sharded(model), Weights()
    for name, value in plain_parameters(model):
        all_of_it = whole(value)
        if parallel.is_main():
            found_weights.append((name, all_of_it.cpu() if sharded else all_of_it))
    return found_weights


class ServerRollouts:
    """Samples from ``server``, whose weights are the student's of this step.

    The main process alone speaks with it, for all: it has one set of weights, which is sent once. The others have ``None``.
    """

    def __init__(self, server: Server | None, decoding: Decoding, attempts: int = 3, pause: float = 5.0):
        self.server, self.decoding, self.attempts, self.pause = server, decoding, attempts, pause

    def sample(
        self, student: Loaded, prompts: Sequence[Sequence[int]], step: int, rows: Sequence[int] | None = None
    ) -> list[Response]:
        """Sample a response per prompt, in order. All processes have to ask equally often.

        Raises :class:`RolloutsLost` if the server answers none of ``attempts``, and :class:`UserError` if what it answers
        cannot be the student's: another tokenizer's prompts, or ids that the student's vocabulary does not have.
        """
        with merged(student.model):
            weights = gathered_weights(student.model)
            return parallel.ask_main(
                [list(prompt) for prompt in prompts], lambda asked: self._answer(student, weights, asked)
            )

    def _answer(self, student: Loaded, weights: Weights, asked: list[list[list[int]]]) -> list[list[Response]]:
        """Return the responses to each process's prompts."""
        assert self.server is not None
        server, chosen = self.server, self.decoding
        device = device_of(student.model)
        told = [(name, str(value.dtype).removeprefix("torch."), list(value.shape)) for name, value in weights]
        self._try(
            "took the student's weights",
            lambda: server.update_named_params(told, ((name, value.to(device)) for name, value in weights)),
        )
        self._try("emptied its prefix cache", server.reset_prefix_cache)
        prompts = [prompt for each in asked for prompt in each]
        found = self._try(
            "answered",
            lambda: server.generate(
                prompts,
                max_tokens=chosen.max_new_tokens,
                temperature=chosen.temperature,
                top_p=chosen.top_p or 1.0,
                top_k=chosen.top_k or 0,
                logprobs=None,
            ),
        )
        if [list(ids) for ids in found["prompt_ids"]] != prompts:
            raise UserError(
                "The vLLM server read other prompts than it was sent, so it is not the student's model. Start it with the "
                "model that the study distils."
            )
        responses = [
            Response(tuple(ids), not ids or ids[-1] not in student.eos_ids) for ids in found["completion_ids"]
        ]
        highest = max((id for response in responses for id in response.ids), default=0)
        if highest >= (rows := vocabulary(student.model)):
            raise UserError(
                f"The vLLM server answered with token {highest}, and the student's vocabulary has {rows}: it serves "
                f"another model. Start it with the model that the study distils."
            )
        rest = iter(responses)
        return [list(islice(rest, len(each))) for each in asked]

    def _try(self, what: str, ask: Callable[[], Any]) -> Any:
        """Try again: TRL's client itself asks again after a dropped connection; this is for a server that is slow to come
        back.
        """
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
    """Connect TRL's client to a running server, ready to take weights from ``device`` over NCCL.

    Raises :class:`UserError` if the extra is not installed, if nothing answers at ``url`` within ``timeout`` seconds, or if
    the server was started without what the transfer of weights needs.
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
