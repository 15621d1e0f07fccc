"""A judge behind a server that speaks the protocol: verdicts, what is kept, its own error rate, and a server that misbehaves."""

import pytest
from chat_server import chat_server

from cr_interp.errors import UserError
from cr_interp.tasks.base import Example
from cr_interp.tasks.yours.judge import Judge

PROMPT = "Is {response} a polite answer to {prompt}? (Expected: {answer})"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def judge(url: str, **more) -> Judge:
    return Judge(url=url, model="m", pause=0, **{"prompt": PROMPT, "timeout": 5, **more})


def polite(body):
    text = body["messages"][0]["content"]
    return "It says please.\nRIGHT" if "please" in text else "Rude. It could be right, but it is WRONG"


EXAMPLE = Example("1", "{response}?", "please")


def test_verdicts_are_asked_for_once(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with chat_server(polite) as server:
        asked = judge(server.url)
        assert asked.grade(EXAMPLE, "please", False) == "right"
        first = server.bodies[0]
        assert first["model"] == "m"
        assert first["temperature"] == 0
        # What is filled in is not filled again: the prompt's own {response} stays as it is.
        assert first["messages"][0]["content"].startswith(
            "Is please a polite answer to {response}?? (Expected: please)"
        )
        assert server.headers[0]["Authorization"] == "Bearer secret"
        n = len(server.bodies)
        assert judge(server.url).grade(EXAMPLE, "please", False) == "right"
        assert len(server.bodies) == n, "kept on disk"
        assert asked.grade(Example("2", "q", ""), "no", False) == "wrong"
        assert asked.grade(EXAMPLE, " ", False) == "unparsable"
        assert asked.grade(EXAMPLE, "", True) == "truncated"


def test_its_own_error_rate():
    """A judge that turns its mind at every second question about the same response is said to."""
    seen = {}

    def fickle(body):
        text = body["messages"][0]["content"]
        seen[text] = seen.get(text, 0) + 1
        return "RIGHT" if seen[text] % 2 else "WRONG"

    with chat_server(fickle) as server:
        asked = judge(server.url)
        for i in range(60):
            asked.grade(EXAMPLE, f"response {i}", False)
        twice = sum(n == 2 for n in seen.values())
        assert 2 <= twice <= 20
        assert asked.notes() == [
            f"The judge m was asked twice about {twice} responses (of all that it has judged with this prompt) and differed from "
            f"itself in {twice} (100 %)"
        ]
    assert judge("http://127.0.0.1:9/v1", prompt=PROMPT + "!").notes() == []


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (lambda body: "perhaps", "'perhaps', with neither RIGHT nor WRONG"),
        (lambda body: b"<html>", "none of a chat"),
        (lambda body: b'{"choices": []}', "none of a chat"),
        (lambda body: b"x" * (2 << 20), "longer than a megabyte"),
        (lambda body: 503, "503"),
        (lambda body: (1.5, "RIGHT"), "did not answer in time"),
    ],
    ids=["nonsense", "no JSON", "no choices", "endless", "busy", "late"],
)
def test_a_server_that_misbehaves_is_asked_again_and_then_all_stops(says, said):
    with chat_server(polite) as server:
        asked = judge(server.url, timeout=0.5, attempts=2)
        assert asked.grade(EXAMPLE, "please", False) == "right"
        n, server.say = len(server.bodies), says
        with pytest.raises(UserError, match=said) as refused:
            asked.grade(EXAMPLE, "other", False)
        assert "type the same command again" in str(refused.value)
        assert len(server.bodies) == n + 2
        assert asked.grade(EXAMPLE, "please", False) == "right", "what was judged is kept"
        server.say = polite
        assert asked.grade(EXAMPLE, "other", False) == "right"  # the expected answer says please


def test_a_server_that_refuses_is_not_asked_again():
    with chat_server(lambda body: 401) as server:
        with pytest.raises(UserError, match="401"):
            judge(server.url).grade(EXAMPLE, "x", False)
        assert len(server.bodies) == 1


def test_nobody_there():
    with pytest.raises(UserError, match="gave no verdict"):
        judge("http://127.0.0.1:9/v1", attempts=1).grade(EXAMPLE, "x", False)


def test_a_rubric_has_to_ask_about_the_response():
    with pytest.raises(ValueError, match="judges nothing"):
        Judge(url="http://x", model="m", prompt="Is it good?")
