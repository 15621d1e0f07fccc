"""Models behind a server: the same rows as of a model loaded here, whatever the server does, and no answer asked twice."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from journeys import commands, run
from openai_stand_in import ChatStandIn, chatting

from cr_interp.errors import UserError
from cr_interp.measure.served import ANSWERS, compare_served
from cr_interp.measure.settings import Evaluation
from cr_interp.report.sending import report_text
from cr_interp.study.study import Study
from cr_interp.system.digests import digest_of
from cr_interp.system.endpoint import Endpoint, Kept, NoAnswer, Said
from cr_interp.tables.metrics import metric_table
from cr_interp.tasks.base import Example
from cr_interp.tasks.yours.own import OwnTask
from cr_interp.views import Context

QUICK = {"pause": 0.0, "timeout": 0.4, "attempts": 3}


def rule(model, messages):
    """``base`` needs the context to answer; ``student`` has it inside, and is wrong on every third when it returns."""
    told = any("say the number" in m["content"] for m in messages)
    number = int(messages[-1]["content"].split()[-1])
    if model == "base":
        return f"It is {number} ." if told else "I would like to know more about it first please"
    return f"It is {number + 1} ." if told and number % 3 == 0 else f"It is {number} ."


class Turns:
    """A task that is played."""

    max_turns = 2

    def __init__(self, task):
        self.name = task.name

    def start(self, example): ...


@pytest.fixture
def server():
    with chatting(ChatStandIn(rule)) as running:
        yield running


@pytest.fixture
def task():
    examples = tuple(Example(f"e{n}", f"what is {n}", str(n)) for n in range(12))
    return OwnTask("numbers", examples, Context.system("say the number"), 8)


def asked(server, task, out, **options):
    chosen = Evaluation(examples=12, controls=("exact",))
    models = {"base": "base", "student": "student"}
    return compare_served(models, task, chosen, out, server.url, **{**QUICK, **options})


def test_the_rows_are_those_of_any_study(server, task, tmp_path):
    study = asked(server, task, tmp_path / "s")
    rows = study.table("generations")
    assert len(rows) == 2 * 2 * 12
    estimate = metric_table(study).query("seed.isna()").set_index(["arm", "metric"])["estimate"]
    assert estimate["student", "acc_x"] == 1
    assert estimate["student", "harm"] == pytest.approx(4 / 12)
    assert estimate["base", "acc_xc"] == 1
    cut = rows[(rows["arm"] == "base") & (rows["view"] == "no_context")]
    assert set(cut["outcome"]) == {"truncated"}
    assert set(cut["n_tokens"]) == {8}
    assert study.manifest["finished"]
    assert study.manifest["engine"]["states"] == "not seen"
    sent = server.asked[0]
    plain = [{"role": "system", "content": ""}, {"role": "user", "content": "what is 0"}]
    given = [{"role": "system", "content": "say the number"}, {"role": "user", "content": "what is 0"}]
    for messages in (plain, given):
        assert sum(body["messages"] == messages for body in server.asked) == 2  # of two models
    assert sent["temperature"] == 0
    assert "seed" not in sent
    told = report_text(study, "md")
    assert "No states were read" in told
    assert "The answers came from a server" in told


def test_what_may_pass_is_asked_again(server, task, tmp_path):
    """A time-out, dropped lines, a busy server, and answers that are none: each question is answered in the end."""
    nonsense = [
        b"<html>",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b"[1]",
        b"null",
        b'{"choices": [{"message": {"content": "no usage"}, "finish_reason": "stop"}]}',
    ]
    server.faults = ["slow", "drop", 429, 500, 503, *nonsense]
    study = asked(server, task, tmp_path / "s", attempts=20)
    assert len(study.table("generations")) == 48
    assert len(server.asked) == 48 + 12
    assert not server.faults


@pytest.mark.parametrize("fault", [503, "drop", b"nonsense", "slow"])
def test_a_server_that_never_answers_ends_it_and_all_that_was_answered_is_kept(fault, server, task, tmp_path):
    server.after = None
    out = tmp_path / "s"
    first = Evaluation(examples=12, controls=("exact",))
    models = {"student": "student"}
    if fault == 503:
        server.after = 13
    else:
        server.faults = [None] * 13
        server.always = fault
    with pytest.raises(NoAnswer, match=r"asked 3 times\. (\d+) of 24 answers of student are kept") as caught:
        compare_served(models, task, first, out, server.url, **QUICK)
    kept = int(str(caught.value).split("times. ")[1].split(" of")[0])
    assert 13 <= kept < 24
    assert not (out / "tables").exists()
    server.after, server.always, server.asked = None, None, []
    study = compare_served(models, task, first, out, server.url, **QUICK)
    assert len(server.asked) == 24 - kept, "only what is missing"
    assert len(study.table("generations")) == 24


def test_what_cannot_pass_is_said_at_once(server, task, tmp_path):
    server.always = 401
    with pytest.raises(UserError, match="refuses the request"):
        asked(server, task, tmp_path / "s")
    assert len(server.asked) <= 32  # one round, no second attempt
    server.always = None
    with pytest.raises(UserError, match="Did you mean 'student'"):
        compare_served(
            {"a": "studnt"},
            task,
            Evaluation(examples=4, controls=("exact",)),
            tmp_path / "t",
            server.url,
            **QUICK,
        )
    with pytest.raises(NoAnswer, match="did not answer"):
        compare_served(
            {"a": "b"},
            task,
            Evaluation(examples=4, controls=("exact",)),
            tmp_path / "u",
            "http://127.0.0.1:9",
            **QUICK,
        )
    with pytest.raises(UserError, match="begins with http"):
        Endpoint("ftp://x")
    with pytest.raises(UserError, match="played in turns"):
        compare_served({"a": "base"}, Turns(task), Evaluation(), tmp_path / "v", server.url)


def test_a_template_that_drops_the_context_is_found_out(server, task, tmp_path):
    server.drops_system = True
    with pytest.raises(UserError, match="as many tokens as without"):
        asked(server, task, tmp_path / "s")


def test_a_study_of_something_else_is_not_continued(server, task, tmp_path):
    out = tmp_path / "s"
    asked(server, task, out)
    with pytest.raises(UserError, match="is finished"):
        asked(server, task, out)
    other = OwnTask("numbers", task.own_examples[:11], task.context, 8)
    with pytest.raises(UserError, match="another evaluation"):
        compare_served(
            {"base": "base", "student": "student"},
            other,
            Evaluation(examples=11, controls=("exact",)),
            out,
            server.url,
        )
    before = len(server.asked)
    asked(server, task, out, again=True)
    assert len(server.asked) == before + 48


def test_several_servers_a_key_and_samples_with_seeds_of_their_own(server, task, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    chosen = Evaluation(examples=3, controls=("exact",), temperature=0.7, samples=2, top_p=0.9)
    with chatting(ChatStandIn(rule, ("elsewhere",))) as other:
        models = {"one": "student", "two": f"elsewhere@{other.url}"}
        study = compare_served(models, task, chosen, tmp_path / "s", server.url, **QUICK)
        assert len(server.asked) == len(other.asked) == 12
    assert len({body["seed"] for body in server.asked}) == 12
    assert set(server.keys) == {"Bearer secret-key"}
    written = "".join(path.read_text("utf-8") for path in (tmp_path / "s").glob("*.json*"))
    assert "secret-key" not in written
    assert len(study.table("generations")) == 24


def test_kept_answers_survive_a_torn_line(tmp_path):
    kept = Kept(tmp_path / ANSWERS)
    kept.keep({"q": 1}, Said("one", 1, None, False))
    kept.keep({"q": 2}, Said("two", 1, 3, True))
    with open(tmp_path / ANSWERS, "ab") as file:
        file.write(b'{"asked": "#1", "said": {"text": "x"}}\n[]\n{"asked": ')
    again = Kept(tmp_path / ANSWERS)
    assert again.of({"q": 2}) == Said("two", 1, 3, True)
    assert again.of({"q": 3}) is None
    again.keep({"q": 3}, Said("three", 1, None, False))
    assert Kept(tmp_path / ANSWERS).of({"q": 3}) == Said("three", 1, None, False)


@pytest.mark.parametrize(
    "said",
    [
        {"text": 5, "tokens": 1, "prompt_tokens": None, "truncated": False},
        {"text": "x", "tokens": "1", "prompt_tokens": None, "truncated": False},
        {"text": "x", "tokens": -1, "prompt_tokens": None, "truncated": False},
        {"text": "x", "tokens": 1, "prompt_tokens": [], "truncated": False},
        {"text": "x", "tokens": 1, "prompt_tokens": None, "truncated": 1},
        {"text": "x"},
    ],
)
def test_a_kept_answer_is_one_or_is_asked_again(said, tmp_path):
    row = {"asked": digest_of({"q": 1}), "said": said}
    (tmp_path / ANSWERS).write_text("[" * 100_000 + "\n" + json.dumps(row) + "\n")
    assert Kept(tmp_path / ANSWERS).of({"q": 1}) is None


def test_no_redirection_is_followed_and_nobody_else_gets_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            came.append(self.path)
            self.send_response(307)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    endpoint = Endpoint(f"http://127.0.0.1:{http.server_port}", attempts=1)
    assert endpoint.models() is None
    with pytest.raises(UserError, match="status 307"):
        endpoint.chat("m", [])
    http.shutdown()
    http.server_close()
    assert came == ["/v1/models", "/v1/chat/completions"]


def test_the_page_s_commands(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"what is {n}", "answer": str(n)} for n in range(6)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "context.txt").write_text("say the number")
    done = commands(
        "how-to/behind-a-server.md",
        **{"http://gpu:8000/v1": server.url, "NAME-OF-BASE": "base", "NAME-OF-STUDENT": "student"},
    )
    assert len(done) >= 3
    for command in done:
        run(command)
    study = Study.open("studies/served")
    assert set(study.table("generations")["arm"]) == {"base", "student"}
    assert isinstance(study.table("generations"), pd.DataFrame)
    assert (tmp_path / "report.html").stat().st_size > 1_000_000
