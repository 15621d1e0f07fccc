"""A stand-in for a server that speaks OpenAI's chat protocol: real HTTP and JSON, a rule for a model, and every way to fail."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rule = Callable[[str, list[dict[str, str]]], str]


class ChatStandIn:
    """Answers by ``rule(model, messages)``. ``faults`` are used up first, one a request: a status, ``slow``, ``drop``, bytes."""

    def __init__(self, rule: Rule, models: tuple[str, ...] = ("base", "student")) -> None:
        self.rule, self.models = rule, models
        self.faults: list[Any] = []
        self.always: Any = None
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.usage = True
        self.drops_system = False
        self.after: int | None = None
        """After so many answers every request is refused."""
        self.url = ""
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.rule(body["model"], body["messages"])
        words = text.split(" ")
        cut = len(words) > body["max_tokens"]
        text = " ".join(words[: body["max_tokens"]])
        seen = [m for m in body["messages"] if not (self.drops_system and m["role"] == "system")]
        usage = {
            "completion_tokens": min(len(words) + 1, body["max_tokens"]),
            "prompt_tokens": sum(len(m["content"].split()) + 2 for m in seen),
        }
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if cut else "stop",
        }
        return {"choices": [choice], **({"usage": usage} if self.usage else {})}

    def fault(self) -> Any:
        with self.lock:
            if self.after is not None and len(self.asked) > self.after:
                return 503
            return self.faults.pop(0) if self.faults else self.always


@contextmanager
def chatting(stand_in: ChatStandIn) -> Iterator[ChatStandIn]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self.send(200, json.dumps({"data": [{"id": name} for name in stand_in.models]}).encode())
            else:
                self.send(404, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)))
            with stand_in.lock:
                stand_in.asked.append(body)
                stand_in.keys.append(self.headers["Authorization"])
            fault = stand_in.fault()
            if fault == "slow":
                time.sleep(1.0)
            elif fault == "drop":
                self.close_connection = True
                return
            elif isinstance(fault, int):
                self.send(fault, b'{"error": {"message": "busy or wrong"}}')
                return
            elif isinstance(fault, bytes):
                self.send(200, fault)
                return
            try:
                self.send(200, json.dumps(stand_in.answer(body)).encode())
            except OSError:
                return  # whoever asked has gone

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
