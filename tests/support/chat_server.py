"""A stand-in for an OpenAI-compatible server: real HTTP, and answers that a test chooses."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer:
    """``say`` makes the answer of a request's body: a text, bytes for the whole reply, a status, or (seconds, text) for late."""

    def __init__(self, say: Callable[[dict[str, Any]], Any]) -> None:
        self.say = say
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


@contextmanager
def chat_server(say: Callable[[dict[str, Any]], Any]) -> Iterator[ChatServer]:
    server = ChatServer(say)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            said = server.say(body)
            if isinstance(said, tuple):
                time.sleep(said[0])
                said = said[1]
            status = said if isinstance(said, int) else 200
            text = {"choices": [{"message": {"role": "assistant", "content": said}}]}
            data = said if isinstance(said, bytes) else json.dumps(text).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except BrokenPipeError:  # who asked has given up
                pass

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
