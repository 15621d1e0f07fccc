"""A server that speaks OpenAI's chat protocol (vLLM, SGLang, llama.cpp, a provider): asked with patience, answers kept on disk.

Mental model. One question is one request. What may pass (a time-out, a dropped line, 429 or 5xx, an answer that is no answer) is
asked again, a little later each time; what cannot (a wrong key, an unknown model) is said at once. Whoever asks many
questions keeps each answer as it comes (:class:`Kept`, by what was asked), so that a stop loses nothing.

    Endpoint(url).chat(model, messages, max_tokens=64) -> Said
"""

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from cr_interp.confined import leads_inside
from cr_interp.errors import UserError
from cr_interp.files import append_jsonl, lines_of, log_row
from cr_interp.system.digests import digest_of

#: The key, if a server wants one; no option, since what is typed is kept in histories and manifests.
KEY = "OPENAI_API_KEY"
#: Answers of more bytes are none.
MOST = 16 << 20


class NoAnswer(UserError):
    """A server did not answer a question, however often it was asked."""


class _Again(Exception):
    """A failure that may not come again the next time."""


@dataclass(frozen=True)
class Said:
    """An answer: its text, the tokens of it and of the prompt as the server counts them, and whether it was cut off."""

    text: str
    tokens: int
    prompt_tokens: int | None
    truncated: bool


class NoRedirect(HTTPRedirectHandler):
    """Follows nobody: a redirection would carry the key, and what is asked, to somebody else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse; the answer is then an error with the redirection's status."""


class Endpoint:
    """One server. ``url`` ends in ``/v1``, as servers print it; it is put there if it is missing. May be shared by threads."""

    def __init__(self, url: str, timeout: float = 120.0, attempts: int = 4, pause: float = 2.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"A server's address begins with http:// or https://; found '{url}'.")
        url = url.rstrip("/")
        self.url = url if url.endswith("/v1") else f"{url}/v1"
        self.timeout, self.attempts, self.pause = timeout, max(1, attempts), pause
        # What is asked may be private: no proxy of the environment's sees a server on this machine.
        local = any(f"//{name}" in self.url for name in ("127.0.0.1", "localhost", "[::1]"))
        self._open = build_opener(NoRedirect, ProxyHandler({})) if local else build_opener(NoRedirect)

    def models(self) -> list[str] | None:
        """Ask what the server serves; None where it does not say. Raises :class:`NoAnswer` if nobody is there."""
        try:
            found = self._tried(lambda: self._request("models"))
            return [str(each["id"]) for each in found["data"]]
        except (KeyError, TypeError):
            return None
        except UserError as error:
            if isinstance(error, NoAnswer):
                raise
            return None  # some servers have no such page

    def chat(self, model: str, messages: Sequence[Mapping[str, str]], **options: Any) -> Said:
        """Send a chat, and return the answer. ``options`` go into the request (``max_tokens``, ``temperature``, …).

        Raises :class:`NoAnswer` after all attempts, :class:`UserError` for a request that the server refuses.
        """
        body = {"model": model, "messages": [dict(each) for each in messages], **options}
        return self._tried(lambda: _said(self._request("chat/completions", body)))  # type: ignore[no-any-return]

    def _tried(self, ask: Any) -> Any:
        for attempt in range(1, self.attempts + 1):
            try:
                return ask()
            except _Again as error:
                if attempt == self.attempts:
                    times = "once" if attempt == 1 else f"{attempt} times"
                    raise NoAnswer(f"{self.url} did not answer ({error}), asked {times}.") from error
                time.sleep(self.pause * 2 ** (attempt - 1))
        raise AssertionError

    def _request(self, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "User-Agent": "cr-interp"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with self._open.open(Request(f"{self.url}/{path}", data, headers), timeout=self.timeout) as answer:
                raw = answer.read(MOST + 1)
        except HTTPError as error:
            said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:300]
            if error.code == 429 or error.code >= 500 or error.code == 408:
                raise _Again(f"status {error.code}: {said}") from error
            raise UserError(f"{self.url} refuses the request (status {error.code}): {said}") from error
        except TimeoutError as error:
            raise _Again(f"no answer within {self.timeout:g} s") from error
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise _Again("no answer in time" if isinstance(reason, TimeoutError) else str(reason)) from error
        except Exception as error:  # what http.client raises for lines that are no protocol
            raise _Again(f"{type(error).__name__}: {error}") from error
        if len(raw) > MOST:
            raise _Again(f"an answer of more than {MOST} bytes")
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _Again(f"no JSON: {raw[:80]!r}") from error


def _said(answer: Any) -> Said:
    """Read the answer's parts. Whatever is not what the protocol promises may be otherwise the next time."""
    try:
        choice = answer["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
        usage = answer.get("usage") or {}
        tokens, asked = usage.get("completion_tokens"), usage.get("prompt_tokens")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Again(f"no answer in what it sent: {str(answer)[:120]}") from error
    if text is None and reason in ("length", "stop"):
        text = ""
    if not isinstance(text, str):
        raise _Again(f"an answer that is no text: {str(text)[:80]!r}")
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
        raise _Again("no usage.completion_tokens, which lengths are counted by")
    known = asked if isinstance(asked, int) and not isinstance(asked, bool) else None
    return Said(text, tokens, known, reason == "length")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


class Kept:
    """Answers on disk, a line each, by what was asked: begun again, the same questions are not asked again. For threads."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._known: dict[str, Any] = {}
        if leads_inside(path.parent, path):
            for row in filter(None, map(log_row, lines_of(path))):  # a kill may have left a line torn
                if isinstance(row.get("asked"), str) and isinstance(row.get("said"), dict):
                    self._known[row["asked"]] = row["said"]

    def __len__(self) -> int:
        return len(self._known)

    def of(self, question: Any) -> Said | None:
        """Find what was answered to this question, if it was. A line that is no answer counts as none."""
        try:
            said = Said(**self._known[digest_of(question)])
        except (KeyError, TypeError):
            return None
        known = said.prompt_tokens is None or _is_count(said.prompt_tokens)
        sound = isinstance(said.text, str) and _is_count(said.tokens) and known
        return said if sound and isinstance(said.truncated, bool) else None

    def keep(self, question: Any, said: Said) -> None:
        """Write an answer down."""
        with self._lock:
            key = digest_of(question)
            self._known[key] = asdict(said)
            append_jsonl(self.path, {"asked": key, "said": asdict(said)})
