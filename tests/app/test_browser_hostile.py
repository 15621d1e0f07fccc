"""Studies from somebody who means harm, in a real browser on a real server: none ends it, reads outside, or asks anybody.

The server runs with a user's own settings that open it to other sites, and with a proxy that notes who asks the network for what.
"""

import base64
import http.client
import http.server
import json
import os
import socket
import threading
import urllib.request
from pathlib import Path

import browsing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browsing import expect, settle
from synthetic import make_study

from cr_interp.study.study import Study

pytestmark = pytest.mark.browser
SECRET = "the words of a file outside"
#: Where a study is looked at: on the pages that read what is wrong with it; elsewhere on the one that asks its task and models.
PAGES = {
    "nested-lines": ("training",),
    "pipes-and-links": ("", "layers", "training"),
    "garbage": ("", "tokens", "try_it"),
    "bomb": ("", "mechanism"),
}


def hostile(root: Path) -> list[str]:
    """Studies of one kind of harm each; their names."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    (outside / "rows.jsonl").write_text(json.dumps({"prompt": SECRET, "answer": "x"}) + "\n")

    def named(name: str, **sections: object) -> Study:
        study = make_study(root / name, examples=6, seeds=(0,), steps=20, tables=browsing.ALL)
        return study.update_manifest(**sections)

    def described(name: str, **changes: object) -> None:
        study = named(name)
        told = {
            "name": "mine",
            "train": {"dataset": "rows.jsonl"},
            "test": {"dataset": "rows.jsonl"},
            "context": {"text": "be brief"},
            "grader": {"kind": "contains"},
            **changes,
        }
        (study.path / "task.yaml").write_text(json.dumps(told))
        (study.path / "rows.jsonl").write_text(json.dumps({"prompt": "p", "answer": "x"}) + "\n")
        (study.path / "link.txt").symlink_to(outside / "secret.txt")
        study.update_manifest(task=str(study.path / "task.yaml"))

    described("context-outside", context={"file": "../../outside/secret.txt"})
    described("context-link", context={"file": "link.txt"})
    described("rows-outside", test={"dataset": str(outside / "rows.jsonl")})
    described("rows-of-the-hub", train={"dataset": "somebody/data"}, test={"dataset": "somebody/data"})
    described(
        "grader-reaches-out",
        grader={"kind": "python", "function": "grader.py:grade"},
        mismatched={"text": "be long"},
        new_instruction={
            "kind": "judge",
            "judge": {"url": "http://x.invalid/v1", "model": "m", "prompt": "{response}"},
        },
    )
    (root / "grader-reaches-out" / "grader.py").write_text(f"open({str(outside / 'ran')!r}, 'w')")
    described("context-of-a-site", context={"url": "http://x.invalid/context.txt", "sha256": "0" * 64})
    named("model-of-the-hub", model="somebody/model", arms={"opd": {"model": "somebody/other"}})
    named("model-outside", model=str(outside), arms={"opd": {"model": "/etc"}})
    nested = named("nested-lines")
    with open(nested.run_path("opd", 0) / "train.jsonl", "ab") as log:
        log.write(b"[" * 40_000 + b"\n" + b'{"a":' * 40_000 + b"\n")
    pipes = named("pipes-and-links")
    for file in ("tables/drift.parquet", "runs/opd-s0/train.jsonl"):
        (pipes.path / file).unlink()
        os.mkfifo(pipes.path / file)
    (pipes.path / "tables" / "generations.parquet").unlink()
    (pipes.path / "tables" / "generations.parquet").symlink_to(outside / "secret.txt")
    garbage = named(
        "garbage", context={"messages": [{"role": "user", "content": [{"type": "image"}]}]}, arms=[1], seeds="x"
    )
    (garbage.path / "tables" / "token_drift.parquet").write_bytes(b"PAR1" + bytes(range(256)) * 40 + b"PAR1")
    bomb = named("bomb")
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000, pa.int32()), pa.array(["x" * 20_000]))
    pq.write_table(
        pa.table({"prompt": text}), bomb.table_path("generations")
    )  # nine kilobytes for sixty gigabytes
    bomb.table_path("patching").symlink_to(outside / "secret.txt")
    bomb.table_path("lens").write_bytes(b"PAR1" + bytes(range(256)) * 40 + b"PAR1")
    adapter = named("adapter-of-the-hub")
    folder = adapter.run_path("opd", 0) / "checkpoint-20"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {"peft_type": "LORA", "base_model_name_or_path": "somebody/model", "r": 2, "target_modules": "(a+)+$"}
        )
    )
    (folder / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    make_study(root / "suite" / "sound", examples=6, seeds=(0, 1))
    make_study(root / "suite" / "broken", examples=6)
    (root / "suite" / "broken" / "manifest.json").write_text("[" * 100_000)
    return sorted(each.name for each in root.iterdir() if (each / "manifest.json").is_file())


class Proxy:
    """Says no to everybody, and notes who asked for what."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.line = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.line.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                asking, _ = self.line.accept()
            except OSError:
                return
            if words := asking.recv(1024):  # a browser may connect ahead, and then ask for nothing
                self.asked.append(words)
            asking.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            asking.close()


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("hostile") / "studies"
    root.mkdir()
    return root, hostile(root)


@pytest.fixture(scope="module")
def proxy():
    found = Proxy()
    yield found
    found.line.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(
        '[server]\nenableCORS = false\nenableXsrfProtection = false\ncorsAllowedOrigins = ["http://evil.example"]\n'
        "enableStaticServing = true\nenableAgentApi = true\n[browser]\ngatherUsageStats = true\n"
    )
    return folder


@pytest.fixture(scope="module")
def server(studies, home, proxy, tmp_path_factory):
    online = {
        "HTTP_PROXY": proxy.address,
        "HTTPS_PROXY": proxy.address,
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_OFFLINE": "0",
    }
    yield from browsing.serve(
        studies[0],
        tmp_path_factory.mktemp("elsewhere"),
        settings={"HOME": str(home), "HF_HOME": str(home / "hf"), **online},
    )


def lives(server: str) -> bool:
    return urllib.request.urlopen(f"{server}/_stcore/health", timeout=10).status == 200


@pytest.mark.slow
def test_no_study_ends_the_server_reads_outside_or_asks_anybody(server, studies, proxy, page):
    _, names = studies
    assert len(names) == 13
    for name in [*names, "suite/sound"]:
        for address in PAGES.get(name, ("try_it",)):
            page.goto(f"{server}/{address}?study={name}")
            expect(page.get_by_test_id("stApp")).to_have_attribute(
                "data-test-script-state", "notRunning", timeout=60_000
            )
            settle(page)
            shown = page.locator("body").inner_text()
            assert SECRET not in shown, (name, address)
            assert "Traceback" not in shown
            assert page.get_by_test_id("stException").count() == 0, (name, address)
            assert lives(server), (name, address)
    page.goto(f"{server}/suite?study=suite/sound")
    settle(page)
    expect(page.get_by_text("broken is left out", exact=False)).to_be_visible()
    assert proxy.asked == []
    assert not (studies[0].parent / "outside" / "ran").exists()


@pytest.mark.slow
def test_a_checkpoint_that_names_the_hub_is_said_to_and_nobody_is_asked(server, proxy, page):
    page.goto(f"{server}/try_it?study=adapter-of-the-hub&checkpoint=opd-s0/checkpoint-20&beside=none")
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=60_000)
    settle(page)
    button = page.get_by_role("button", name="Try it")
    if button.count():
        button.first.click()
        settle(page)
    assert lives(server)
    assert proxy.asked == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_users_own_settings_do_not_open_it_to_other_sites(server, origin):
    address = server.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=10)
    headers = {
        "Origin": origin,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    connection.request("GET", "/_stcore/stream", headers=headers)
    assert connection.getresponse().status == 403
    connection.close()
    for path in ("/_stcore/health", "/_stcore/host-config", "/_stcore/agent/openapi.json"):
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", path, headers={"Origin": origin})
        answer = connection.getresponse()
        assert answer.getheader("Access-Control-Allow-Origin") in (None, "http://127.0.0.1")
        body = answer.read()
        if path.endswith("host-config"):
            assert b"streamlit.app" not in body
        connection.close()


def test_a_page_can_load_nothing_from_elsewhere(server, browser, proxy):
    """Even if a study's text became part of the page: nothing arrives at another server of this machine."""
    tab, before = browsing.new_tab(browser), list(proxy.asked)
    tab.goto(f"{server}/?study=garbage")
    expect(tab.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=60_000)
    # Nothing runs before the first run either: the policy is there once the page has been drawn.
    expect(tab.locator("meta[http-equiv='Content-Security-Policy']").first).to_be_attached(timeout=60_000)
    refused = tab.evaluate(
        """async other => {
        const told = []
        document.addEventListener('securitypolicyviolation', event => told.push(event.effectiveDirective))
        const image = new Image()
        image.src = `${other}/a.png`
        const frame = document.createElement('iframe')
        frame.src = `${other}/b`
        document.body.append(image, frame)
        await fetch(`${other}/c`).catch(() => null)
        await new Promise(later => setTimeout(later, 300))
        return told
    }""",
        proxy.address,
    )
    tab.context.close()
    assert {"img-src", "frame-src", "connect-src"} <= set(refused)
    assert proxy.asked == before


def test_a_frame_of_another_site_shows_nothing(server, browser):
    """Of a page of this machine, that is: Chromium itself keeps pages of the network out of frames of this machine."""
    framed = f"<iframe src='{server}/' width=900 height=600></iframe>".encode()

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(framed)

        def log_message(self, *_: object) -> None:
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
    tab = browsing.new_tab(browser)
    tab.goto(f"http://127.0.0.1:{other.server_address[1]}/")
    frame = tab.frame_locator("iframe")
    expect(frame.locator("body")).to_contain_text("not shown inside the page of another site", timeout=60_000)
    assert frame.get_by_test_id("stApp").count() == 0
    tab.context.close()
    other.shutdown()
