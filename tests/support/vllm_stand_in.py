"""A stand-in for ``vllm serve``: the same HTTP interface, as TRL's client speaks it, with a tiny model behind it.

What is real: the client, its retries, every request and its JSON. What is not: vLLM's engine, and NCCL, whose place a
shared list of tensors takes (:meth:`StandIn.receive`).
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import torch

from cr_interp.models.generation import Decoding, generate, noise


class StandIn:
    def __init__(self, loaded: Any):
        self.loaded = loaded
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.received: list[tuple[str, torch.Tensor]] = []
        self.failing = 0
        """So many of the next requests for completions are refused with 503; negative: all."""
        self.shift = 0
        """Added to every id it answers with: another model's vocabulary."""
        self.url = ""

    def get(self, path: str) -> Any:
        return {
            "/health": {},
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/server_info": {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}}},
            "/get_world_size": {"world_size": 1},
        }[path]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/update_weights":
            names = body["update_info"]["names"]
            assert names == [name for name, _ in self.loaded.model.named_parameters()]
        if path == "/finish_weight_update":
            parameters = dict(self.loaded.model.named_parameters())
            with torch.no_grad():
                for name, value in self.received:
                    parameters[name].copy_(value)
            self.received.clear()
        if path != "/v1/completions":
            return {}
        self.bodies.append(body)
        decoding = Decoding(
            body["max_tokens"],
            body["temperature"],
            body["top_k"] or None,
            None if body["top_p"] == 1 else body["top_p"],
        )
        drawn = noise(0, range(len(body["prompt"])), body["max_tokens"])
        found = generate(self.loaded, body["prompt"], decoding, drawn)
        return {
            "choices": [
                {"prompt_token_ids": asked, "token_ids": [id + self.shift for id in each.ids], "logprobs": None}
                for asked, each in zip(body["prompt"], found, strict=True)
            ]
        }

    def receive(self, iterator: Any, **_: Any) -> None:
        """In the place of NCCL's broadcast."""
        self.received = [(name, value.clone()) for name, value in iterator]


def client(monkeypatch: Any, stand_in: StandIn) -> Any:
    """TRL's own on a served stand-in, with tensors handed over instead of NCCL's broadcast."""
    import trl.generation.vllm_client as module

    stub = SimpleNamespace(
        trainer_init=lambda info: None,
        trainer_send_weights=lambda iterator, trainer_args: stand_in.receive(iterator),
    )
    monkeypatch.setattr(module, "is_vllm_available", lambda *_, **__: True)
    monkeypatch.setattr(module, "_HAS_STATEFUL_TRAINER_ENGINE", False)
    monkeypatch.setattr(module, "_HAS_RESET_PREFIX_CACHE_SUCCESS", True)
    monkeypatch.setattr(module, "NCCLWeightTransferEngine", stub, raising=False)
    monkeypatch.setattr(module, "get_ip", lambda: "127.0.0.1", raising=False)
    monkeypatch.setattr(module, "NCCLTrainerSendWeightsArgs", lambda **_: None, raising=False)
    made = module.VLLMClient(base_url=stand_in.url)
    # The client waits for seconds between its own attempts.
    for adapter in made.session.adapters.values():
        adapter.max_retries = adapter.max_retries.new(backoff_factor=0)
    return made


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            stand_in.asked.append(path)
            self.answer(200, stand_in.get(path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
            stand_in.asked.append(self.path)
            if self.path == "/v1/completions" and stand_in.failing:
                stand_in.failing -= 1
                self.answer(503, {"error": "busy"})
            else:
                self.answer(200, stand_in.post(self.path, body))

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
