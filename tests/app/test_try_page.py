"""Try it without a browser: nothing is loaded before the button, and what is said when a model or a text is wrong.

AppTest does not know plotly charts; ``test_browser_try.py`` looks at those.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from synthetic import make_study

from cr_interp.models.known import ORGANISMS, builtin_names
from cr_interp.study import searching as studies

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
PAGE = "screens/try_it.py"


@pytest.fixture
def good(root: Path) -> Path:
    return make_study(root / "organism-shift", examples=12).path


@pytest.fixture
def trained(good: Path) -> Path:
    """The study with two checkpoints on disk; any weights will do."""
    for run in (
        "nca-s0/checkpoint-75",
        "nca-s0/checkpoint-100",
        "nca-s1/checkpoint-100",
        "opd-s0/checkpoint-100",
    ):
        shutil.copytree(ORGANISMS / "rules", good / "runs" / run, dirs_exist_ok=True)
    return good


def open_page(**address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    for key, value in address.items():
        app.query_params[key] = value
    return app.switch_page(PAGE).run()


def said(app: AppTest) -> str:
    parts = [app.markdown, app.caption, app.info, app.error, app.subheader]
    return "\n".join(str(element.value) for part in parts for element in part).replace("\\", "")


def html(app: AppTest) -> str:
    return "\n".join(str(each.proto.body) for each in app.get("html"))


def load(app: AppTest) -> AppTest:
    app = app.button(key="load").click().run()
    assert not app.exception
    return app


def test_the_page_opens_with_the_study_and_explains_itself(trained):
    app = open_page()
    assert not app.exception
    assert not app.error
    assert "the less its states move, the less the context still changes" in app.markdown[0].value
    # The two arms that are compared, the last step of the lowest seed.
    assert app.selectbox(key="checkpoint").value == "opd-s0/checkpoint-100"
    assert app.selectbox(key="beside").value == "nca-s0/checkpoint-100"
    responses = studies.Study.open(trained).table("generations")
    assert app.text_area(key="prompt").value == responses["prompt"].iloc[0]
    assert app.text_area(key="context").value == "rule: shift"
    assert app.number_input(key="limit").value == 18
    assert "Nothing is loaded" in said(app)
    assert "ct-pair" not in html(app)
    assert all(app.selectbox(key=key).help for key in ("checkpoint", "beside"))


@pytest.mark.slow
def test_neither_opening_nor_choosing_imports_torch(trained):
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(MAIN)!r}, default_timeout=60).run()
app.switch_page({PAGE!r}).run()
app.selectbox(key="beside").set_value("builtin:smollm2-135m-instruct").run()
app.text_area(key="prompt").set_value("abc").run()
assert not app.exception and not app.error
print([name for name in ("torch", "transformers", "training") if name in sys.modules])
app.selectbox(key="beside").set_value("none").run()
app.button(key="load").click().run()
assert not app.exception and not app.error
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=trained,
        env={**os.environ, "CR_INTERP_STUDIES": str(trained.parent)},
    )
    assert done.stdout.splitlines() == ["[]", "True"], done.stderr


@pytest.mark.slow
def test_both_checkpoints_answer_and_follow_what_is_typed(trained):
    app = load(open_page())
    assert not app.error
    assert [each.value for each in app.subheader] == [
        "Responses",
        "Where the answers part, layer by layer",
        "Change the run, and let it answer",
        "Drift by layer",
        "Drift by token",
    ]
    assert html(app).count("class='ct-pair'") == 2
    assert app.select_slider(key="tried_layer").options[0] == "emb"
    assert "load" not in [button.key for button in app.button]
    before = html(app)
    app.text_area(key="context").set_value("write it backwards").run()
    assert not app.exception
    assert html(app) != before
    # Another checkpoint is loaded only when the button is pressed again; the loaded one still answers.
    app.selectbox(key="beside").set_value("builtin:smollm2-135m-instruct").run()
    assert html(app).count("class='ct-pair'") == 1
    assert app.button(key="load").label == "Load smollm2\\-135m\\-instruct and answer"


@pytest.mark.slow
@pytest.mark.parametrize("address", [{}, {"token_measure": "kl"}, {"token_measure": "relative_l2", "layer": "1"}])
def test_the_saved_lines_make_the_figures(trained, monkeypatch, address):
    from test_recipes import drawing, made_by

    from app import parts

    found = {}
    monkeypatch.setattr(
        parts, "show_figure", lambda figure, name, *_, code, **__: found.update({name: (figure, code)})
    )
    app = load(open_page(**address))
    found.clear()  # of the page that was open before
    app.text_area(key="context").set_value("[user]\nab 'c'\n\n[assistant]\nba\n\n[prompt]\nNow {prompt}").run()
    app.text_area(key="prompt").set_value('dab"c').run()
    assert not app.exception
    assert not app.error
    assert len([name for name in found if not name.startswith("lens")]) == (
        1 if address.get("token_measure") == "kl" else 2
    )
    for name, (figure, code) in found.items():
        assert drawing(made_by(code)) == drawing(figure), name
    found.clear()
    app.text_area(key="context").set_value("").run()
    assert not [name for name in found if name.startswith("lens")]  # without a context the answers are one
    for name, (figure, code) in found.items():
        assert "context = None" in code
        assert drawing(made_by(code)) == drawing(figure), name


def test_what_is_missing_is_said_and_the_pair_follows_the_comparison(trained):
    shutil.rmtree(trained / "runs" / "opd-s0")
    app = open_page()
    assert "Not offered: opd." in said(app)
    assert app.selectbox(key="beside").value == "nca-s0/checkpoint-100"
    app = open_page(arm="nca", baseline="base")
    assert (app.selectbox(key="checkpoint").value, app.selectbox(key="beside").value) == (
        "base",
        "nca-s0/checkpoint-100",
    )


@pytest.mark.slow
def test_a_changed_run_answers(good):
    app = load(open_page(checkpoint="base", beside="none"))
    assert "Nothing is computed before you press the button" in said(app)
    pairs = html(app).count("class='ct-pair'")
    last = app.select_slider(key="edit_layer").options[-1]
    assert app.select_slider(key="edit_layer").value == last
    app.button(key="mend").click().run()
    assert not app.exception
    assert not app.error
    assert html(app).count("class='ct-pair'") == pairs + 1
    # At the last layer the state is the whole answer.
    assert "the answer without the context is back" in said(app) or "both answers were the same" in said(app)
    app.selectbox(key="edit").set_value("put attention").run()
    assert not app.exception
    assert not app.error
    app.select_slider(key="edit_layer").set_value("1").run()
    app.selectbox(key="edit").set_value("block").run()
    assert not app.exception
    assert not app.error
    assert "Block the context, in layers 1 to" in said(app)
    app.select_slider(key="edit_last").set_value("0").run()
    assert "nothing is blocked" in said(app)
    for kind in ("remove", "add"):
        app.selectbox(key="edit").set_value(kind).run()
        assert not app.exception
        assert not app.error
        assert "mean over 8 other prompts" in said(app)
    app.text_area(key="context").set_value("").run()
    assert "there is nothing to take away" in said(app)


def test_there_is_a_button_that_answers_after_loading(good):
    app = load(open_page(checkpoint="base", beside="none"))
    assert [button.label for button in app.button if button.key == "answer"] == ["Answer"]
    app.text_area(key="prompt").set_value("abc")
    app.button(key="answer").click().run()
    assert not app.exception
    assert html(app).count("class='ct-pair'") == 1


def test_no_context_moves_nothing(good):
    app = load(open_page())
    app.text_area(key="context").set_value(" ").run()
    assert "nothing moves" in said(app)
    assert "Lowest cosine **1.0000**" in said(app)
    assert "**0** nats" in said(app)
    assert "mark>" not in html(app)


def test_another_example_and_back_to_the_studys_own_texts(good):
    app = open_page()
    first = app.text_area(key="prompt").value
    app.text_area(key="prompt").set_value("ponm").run()
    app.text_area(key="context").set_value("x").run()
    assert app.text_area(key="prompt").value == "ponm"
    # What was typed stays while other pages are visited.
    app.switch_page("screens/layers.py").run()
    app.switch_page(PAGE).run()
    assert (app.text_area(key="prompt").value, app.text_area(key="context").value) == ("ponm", "x")
    next(button for button in app.button if button.label == "Another example").click().run()
    assert app.text_area(key="prompt").value not in ("ponm", first)
    assert app.text_area(key="context").value == "x"
    next(button for button in app.button if button.label.startswith("The study's")).click().run()
    assert app.text_area(key="context").value == "rule: shift"
    app.text_area(key="prompt").set_value("").run()
    assert "Type a prompt" in said(app)


def test_the_context_begins_as_the_control_on_the_left(good):
    manifest = json.loads((good / "manifest.json").read_text())
    turns = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}]
    manifest["controls"] = {"mismatched": {"messages": turns, "splice": "Now {prompt}"}}
    (good / "manifest.json").write_text(json.dumps(manifest))
    app = open_page()
    app.selectbox(key="control").set_value("mismatched").run()
    assert app.text_area(key="context").value == "[user]\nab\n\n[assistant]\nba\n\n[prompt]\nNow {prompt}"
    app.text_area(key="context").set_value("[prompt]\nnowhere").run()
    assert not app.exception
    assert "exactly once" in app.error[0].value


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "There is no folder"),
        ("file", "found: a file"),
        ("empty", "has no config.json"),
        ("weightless", "has no weights as safetensors"),
        ("pickled", "Reading a pickle can run"),
        ("a\0b", "There is no folder"),
        ("~nobody-at-all/model", "cannot be read"),
        ("/" + 3000 * "a", "cannot be read"),
        ("organisms/llama", "There is no folder"),
    ],
)
def test_a_wrong_folder_is_said_at_once(good, tmp_path, kind, words):
    folder = tmp_path / "model"
    if kind in ("empty", "weightless", "pickled"):
        folder.mkdir()
    if kind in ("weightless", "pickled"):
        shutil.copy(ORGANISMS / "rules" / "config.json", folder)
    if kind == "pickled":
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    if kind == "file":
        folder.write_text("text")
    app = open_page(checkpoint="folder")
    app.text_input(key="folder").set_value(str(folder) if kind.isalpha() else kind).run()
    assert not app.exception
    assert words in app.error[0].value.replace("\\", "")
    assert "load" not in [button.key for button in app.button]


def test_a_folder_of_ones_own(good, tmp_path):
    shutil.copytree(ORGANISMS / "rules", tmp_path / "mine")
    app = open_page(checkpoint="folder")
    assert "Type the folder" in said(app)
    app = load(app.text_input(key="folder").set_value(str(tmp_path / "mine")).run())
    assert not app.error
    assert ">mine</div>" in html(app)


@pytest.mark.slow
def test_damaged_weights_and_another_tokenizer_cost_their_own_half(trained):
    weights = trained / "runs" / "nca-s0" / "checkpoint-100" / "model.safetensors"
    weights.write_bytes(b"no weights")
    app = load(open_page())
    assert "could not be loaded" in app.error[0].value
    assert html(app).count("class='ct-pair'") == 1
    other = trained / "runs" / "nca-s1" / "checkpoint-100"
    (other / "chat_template.jinja").write_text("{{ messages[-1].content }}>")
    app = load(open_page(beside="nca-s1/checkpoint-100"))
    assert "has another tokenizer or chat template" in app.error[0].value
    assert html(app).count("class='ct-pair'") == 1


def test_what_does_not_fit_says_what_to_do(good):
    app = open_page()
    app.text_area(key="prompt").set_value("abcd" * 200)
    app = load(app)
    assert "Nothing is truncated here" in app.error[0].value


def test_characters_that_the_tokenizer_does_not_know(good):
    app = open_page()
    app.text_area(key="prompt").set_value("abé")
    app = load(app)
    assert "does not know é" in app.warning[0].value


@pytest.mark.parametrize("manifest", [{"task": 3, "context": "x", "controls": [1], "arms": 2, "model": None}, {}])
def test_a_manifest_of_the_wrong_shape_and_no_responses(good, manifest):
    (good / "manifest.json").write_text(json.dumps({"schema_version": 1, **manifest}))
    (good / "tables" / "generations.parquet").unlink()
    app = open_page()
    assert not app.exception
    assert not app.error
    assert app.selectbox(key="checkpoint").value == builtin_names()[0]
    assert "Type a prompt" in said(app)
    app.text_area(key="prompt").set_value("abcd").run()
    app = load(app)
    assert "nothing moves" in said(app)


def test_the_address_names_the_checkpoints(trained):
    app = open_page(checkpoint="opd-s0/checkpoint-100", beside="none", limit="7", layer="1", example="test-0003")
    assert app.selectbox(key="checkpoint").value == "opd-s0/checkpoint-100"
    assert app.number_input(key="limit").value == 7
    app = load(app)
    assert app.select_slider(key="tried_layer").value == "1"
    assert app.selectbox(key="asked").value == "test-0003"
    app = open_page(checkpoint="../../etc", beside="/etc", limit="100000")
    assert app.selectbox(key="checkpoint").value == "opd-s0/checkpoint-100"
    assert app.number_input(key="limit").value == 18
    assert not app.exception
