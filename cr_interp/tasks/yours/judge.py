"""A judge: a model behind an OpenAI-compatible address that says whether a response is right by a rubric.

Mental model. A judge is asked about one response at a time, in one user message, and has to end with the word RIGHT or WRONG.
Its verdict is kept on disk under the digest of what it was asked, so nothing is asked twice, and a stop loses nothing. What it
answers is somebody's opinion: one response in :data:`TWICE` (chosen by its digest) is judged a second time, and how often the two
verdicts differ is said beside the results (:meth:`Judge.notes`). A server that is slow, silent or talks nonsense is asked again a
few times; then all stops, with what it said.

The key is read from an environment variable and is written nowhere.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cr_interp.errors import UserError
from cr_interp.files import write_atomic
from cr_interp.system.digests import digest_of
from cr_interp.system.endpoint import NoRedirect
from cr_interp.system.visible import one_line
from cr_interp.tasks.base import Example, Outcome
from cr_interp.views import Context

#: One response in so many is judged twice.
TWICE = 8
#: Bytes of an answer that are read.
LONGEST = 1 << 20
VERDICT = re.compile(r"\b(RIGHT|WRONG)\b")
END = "\n\nEnd with one word on a line of its own: RIGHT or WRONG."


class Judge(BaseModel):
    """A server and the question that it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    url: str = Field(pattern="^https?://")
    """Up to and without ``/chat/completions``, such as ``http://localhost:8000/v1``."""
    model: str
    """As the server calls it."""
    prompt: str = Field(max_length=20_000)
    """The rubric, with ``{prompt}``, ``{response}`` and, if it is wanted, ``{answer}`` and ``{context}``."""
    key_env: str = Field("OPENAI_API_KEY", pattern="^[A-Z_][A-Z0-9_]*$")
    """Name of the environment variable that holds the key; empty or unset: none is sent."""
    max_tokens: int = Field(512, gt=0, le=32_768)
    """Of the judge's answer."""
    timeout: float = Field(60, gt=0, le=3600)
    """Seconds for one answer."""
    attempts: int = Field(3, gt=0, le=20)
    """How often it is asked before all stops."""
    pause: float = Field(2.0, ge=0, le=600)
    """Seconds before the second attempt; twice as many before each further one."""

    @field_validator("prompt")
    @classmethod
    def _asks_about_the_response(cls, value: str) -> str:
        if "{response}" not in value:
            raise ValueError("the judge's prompt has to contain {response}, or it judges nothing")
        return value

    def grade(self, example: Example, response: str, truncated: bool) -> Outcome:
        """Return ``right`` or ``wrong`` by the judge; an empty response is not sent.

        Raises :class:`UserError` if no verdict is to be had.
        """
        if not response.strip():
            return "truncated" if truncated else "unparsable"
        asked = self.asked(example, response)
        verdict = self._verdict(asked, 0)
        if int(digest_of(asked)[1:], 16) % TWICE == 0:
            self._verdict(asked, 1)
        return "right" if verdict else "wrong"

    def asked(self, example: Example, response: str) -> str:
        """Give what the judge is sent. What is filled in is not filled again."""
        values = {
            "prompt": example.prompt,
            "response": response,
            "answer": example.answer,
            "context": _text(example.context),
        }
        return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), self.prompt) + END

    def notes(self) -> list[str]:
        """Say how often the judge differs from itself, from the responses that it judged twice."""
        twice = differing = 0
        for file in self._folder().glob("*-1.json"):
            first, second = _kept(file.with_name(file.name.replace("-1.json", "-0.json"))), _kept(file)
            if first is not None and second is not None:
                twice += 1
                differing += first != second
        if not twice:
            return []
        return [
            f"The judge {self.model} was asked twice about {twice} responses (of all that it has judged with this prompt) and "
            f"differed from itself in {differing} ({100 * differing / twice:.0f} %)"
        ]

    def _verdict(self, asked: str, time_asked: int) -> bool:
        file = self._folder() / f"{digest_of(asked)[1:]}-{time_asked}.json"
        kept = _kept(file)
        if kept is not None:
            return kept
        verdict, said = self._ask(asked, time_asked)
        told = json.dumps({"right": verdict, "said": said}, ensure_ascii=False).encode()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, lambda out: out.write(told))
        return verdict

    def _ask(self, asked: str, seed: int) -> tuple[bool, str]:
        problem = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                said = self._said(asked, seed + attempt)
            except (OSError, ValueError, http.client.HTTPException) as error:
                problem = _told(error)
                if isinstance(error, urllib.error.HTTPError) and error.code in (400, 401, 403, 404):
                    break  # it will say the same again
                continue
            found = VERDICT.findall(said.upper())
            if found:
                return found[-1] == "RIGHT", said
            problem = f"it answered {one_line(said)[:120]!r}, with neither RIGHT nor WRONG"
        raise UserError(
            f"The judge {self.model} at {self.url} gave no verdict ({problem}). What it has judged is kept: look after the "
            f"server and type the same command again."
        )

    def _said(self, asked: str, seed: int) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": asked}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "seed": seed,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_env):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
        )
        with _DIRECT.open(request, timeout=self.timeout) as answer:
            data = answer.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise ValueError("its answer is longer than a megabyte")
        try:
            return str(json.loads(data)["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"its answer is none of a chat: {one_line(data.decode(errors='replace'))[:120]!r}"
            ) from error

    def _folder(self) -> Path:
        """Return verdicts of this model on this rubric, whichever server says them."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        return cache / "cr_interp" / "judge" / digest_of([self.model, self.prompt, self.max_tokens])[1:]


_DIRECT = urllib.request.build_opener(NoRedirect)


def _kept(file: Path) -> bool | None:
    """Return a verdict that was kept; None if there is none, or none that can be read."""
    try:
        right = json.loads(file.read_text(encoding="utf-8"))["right"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return right if isinstance(right, bool) else None


def _told(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return "it did not answer in time"
    return f"{type(reason).__name__}: {one_line(reason)[:160]}" if isinstance(reason, OSError) else str(error)


def _text(context: Context | None) -> str:
    return "" if context is None else "\n".join(message["content"] for message in context.messages)
