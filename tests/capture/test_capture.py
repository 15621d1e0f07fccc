"""The three backends see the same states, however a batch is laid out and whatever is edited."""

import gc
import sys
from functools import cache

import pytest
import torch
import warm
from agreement import assert_same, difference, edits_of
from tiny import ARCHITECTURES, tiny, tiny_model, tiny_view
from torch import nn

from cr_interp.capture import BACKENDS, ablate, at, capture, patch, steer
from cr_interp.capture import sites as sites_module
from cr_interp.capture import transformer_lens as lens
from cr_interp.capture.check import check_sums
from cr_interp.capture.sites import Site, all_sites, blocks, residual_sites
from cr_interp.errors import NotFinite, UserError
from cr_interp.models.forward import backbone, build_view, encode_prefix, hidden_states
from cr_interp.views import Context, render

RESPONSES = [[10, 11, 1], [20, 1]]
OTHERS = [name for name in BACKENDS if name != "hooks"]


@cache
def model_of(family):
    return tiny_model(family)


# -- agreement -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("family", ARCHITECTURES)
@torch.no_grad()
def test_backends_paddings_and_shared_prefix_agree_with_one_plain_sequence_at_a_time(family):
    model = model_of(family)
    sites = all_sites(model)
    whole = tiny_view(prefix_length=0)
    expected = capture(model, whole, sites)
    for row in range(len(whole.ids)):  # the library's own states, one sequence at a time, nothing shared
        ids = whole.ids[row][whole.mask[row]]
        hidden = backbone(model)(input_ids=ids[None], output_hidden_states=True, use_cache=False).hidden_states
        mine = whole.rows == row
        for layer in range(3):
            state = expected[Site("resid_pre", layer)][mine]
            torch.testing.assert_close(state, hidden[layer][0, whole.columns[mine]], atol=1e-5, rtol=1e-5)
    for padding in ("right", "left"):
        for prefix_length in (None, 0):
            view = tiny_view(padding, prefix_length)
            assert len(view.prefix) == (11 if prefix_length is None else 0)
            for backend in BACKENDS:
                assert_same(capture(model, view, sites, backend=backend), expected)


@pytest.mark.slow
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_backends_and_paddings_agree_under_edits(family):
    model = model_of(family)
    sites, edits = all_sites(model), edits_of(model)
    plain = capture(model, tiny_view(), sites)
    for prefix_length in (None, 0):
        expected = capture(model, tiny_view(prefix_length=prefix_length), sites, edits=edits)
        assert difference(expected, plain)[0] > 0.1
        for padding in ("right", "left"):
            for backend in BACKENDS:
                found = capture(model, tiny_view(padding, prefix_length), sites, backend=backend, edits=edits)
                assert_same(found, expected)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_sums_hold(family):
    model = model_of(family)
    checks = check_sums(model, capture(model, tiny_view(), all_sites(model)))
    assert len(checks) == (4 if family == "gpt_neox" else 5)
    assert {check.status for check in checks} == {"pass"}


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
def test_windows_shorter_than_the_prompt_matter_in_these_tests(family):
    wide = tiny_model(family, sliding_window=100)
    assert difference(*(capture(m, tiny_view(), all_sites(m)) for m in (model_of(family), wide)))[0] > 1e-3


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("prefix_length", [None, 0])
def test_states_equal_output_hidden_states(family, prefix_length):
    loaded = tiny(family)
    prompts = [render(loaded.tokenizer, p, Context.system("use big letters")) for p in ("abcd", "fe")]
    view = build_view(prompts, RESPONSES, loaded.pad_id, prefix_length)
    sites = residual_sites(loaded.model)
    states = capture(loaded.model, view, [*sites, Site("final", -1)])
    expected = {site: [] for site in states}
    for prompt, response in zip(prompts, RESPONSES, strict=True):
        with torch.no_grad():
            hidden = loaded.model(
                input_ids=torch.tensor([prompt + response]), output_hidden_states=True
            ).hidden_states
        span = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
        # hidden_states[-1] is after the final norm, so the last block's output is not among them
        for site, layer in zip([*sites[:-1], Site("final", -1)], hidden, strict=True):
            expected[site].append(layer[0, span])
    for site, parts in expected.items():
        if parts:
            torch.testing.assert_close(states[site], torch.cat(parts), atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(states[Site("final", -1)], hidden_states(loaded.model, view).detach())


def test_last_block_is_before_the_final_norm():
    model = model_of("llama")
    states = capture(model, tiny_view(), [Site("resid_post", 2), Site("final", -1)])
    torch.testing.assert_close(model.model.norm(states[Site("resid_post", 2)]), states[Site("final", -1)])


@pytest.mark.slow
def test_backends_agree_on_a_real_model():
    pytest.importorskip("gguf")
    from cr_interp.models.loading import load

    loaded = load("builtin:smollm2-135m-instruct", attn_implementation="eager")
    prompts = [
        render(loaded.tokenizer, p, Context.system("Answer in French.")) for p in ("Good morning!", "Count to 3.")
    ]
    view = build_view(prompts, [[504, 2365, 2], [1, 2]], loaded.pad_id)
    sites = all_sites(loaded.model)
    expected = capture(loaded.model, view, sites)
    for backend in OTHERS:
        assert_same(capture(loaded.model, view, sites, backend=backend), expected)


# -- edits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post", "final"])
def test_the_captured_state_is_the_edited_one(backend, name):
    model = model_of("gemma3_text")
    site = Site(name, -1 if name == "final" else 1)
    before = capture(model, tiny_view(), [site])[site]
    vector = torch.randn(before.shape[-1])
    after = capture(model, tiny_view(), [site], backend=backend, edits={site: steer(vector, 2.0)})[site]
    torch.testing.assert_close(after, before + 2 * vector, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_patching_every_residual_state_moves_the_other_views_output_over(backend):
    model = model_of("llama")
    source, target = tiny_view(seed=0), tiny_view(seed=1)
    site, final = Site("resid_mid", 2), Site("final", -1)
    states = capture(model, source, [site, final])
    patched = capture(
        model, target, [final], backend=backend, edits={site: patch(states[site], target.rows, target.columns)}
    )
    # After the last attention nothing crosses positions, so the rest is a function of the patched state alone.
    torch.testing.assert_close(patched[final], states[final], atol=1e-5, rtol=1e-5)


def test_an_edit_of_the_middle_changes_the_stream_and_not_only_what_the_mlp_reads():
    model = model_of("llama")
    middle, post = Site("resid_mid", 1), Site("resid_post", 1)
    vector = torch.randn(32)
    states = capture(model, tiny_view(), [middle, post], edits={middle: steer(vector)})
    block = blocks(model)[1]
    torch.testing.assert_close(
        states[post],
        states[middle] + block.mlp(block.post_attention_layernorm(states[middle])),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_edit_reaches_every_position_whatever_prompts_share_the_batch(backend):
    """Alone, a prompt shares all but its last token with itself; beside others, eleven. The value: hooks on one plain
    sequence at a time."""
    model = model_of("llama")
    sites = residual_sites(model)
    whole = tiny_view(prefix_length=0)
    prompts = [whole.ids[r][: whole.columns[whole.rows == r][0] + 1].tolist() for r in range(3)]
    responses = [whole.targets[whole.rows == r].tolist() for r in range(3)]
    site, mlp = Site("attn_out", 1), blocks(model)[1].self_attn
    edits = {site: lambda state: 0.5 * state + 1}

    handle = mlp.register_forward_hook(lambda _m, _i, output: (0.5 * output[0] + 1, *output[1:]))
    expected = []
    for row in range(3):
        ids = whole.ids[row][whole.mask[row]]
        with torch.no_grad():
            hidden = backbone(model)(
                input_ids=ids[None], output_hidden_states=True, use_cache=False
            ).hidden_states
        expected.append(hidden[2][0, whole.columns[whole.rows == row]])
    handle.remove()

    alone = [
        capture(model, build_view([p], [r], 0), sites, backend=backend, edits=edits)
        for p, r in zip(prompts, responses, strict=True)
    ]
    for padding in ("right", "left"):
        for prefix_length in (None, 0, 5):
            view = tiny_view(padding, prefix_length)
            together = capture(model, view, sites, backend=backend, edits=edits)
            for here in sites:
                assert_same({here: together[here]}, {here: torch.cat([each[here] for each in alone])})
            assert_same({site: together[Site("resid_post", 1)]}, {site: torch.cat(expected)})


def test_an_edit_of_given_places_sees_them_in_every_layout_and_keeps_the_prefix():
    model = model_of("llama")
    site, later = Site("resid_pre", 1), Site("resid_post", 2)
    seen = []

    def halve(states):
        seen.append(states)
        return states / 2

    found = []
    for padding in ("right", "left"):
        for prefix_length in (None, 0):
            view = tiny_view(padding, prefix_length)
            widths = []
            handle = model.model.layers[2].register_forward_pre_hook(
                lambda _m, args, _w=widths: _w.append(args[0].shape[1])
            )
            found.append(capture(model, view, [later], edits={site: at(view.rows, view.columns, halve)}))
            handle.remove()
            assert widths[-1] == view.ids.shape[1]
    plain = capture(model, tiny_view(), [site])
    for states, each in zip(seen, found, strict=True):
        assert_same({site: states}, plain)
        assert_same(each, found[0])


def test_an_edit_that_writes_to_the_views_columns_finds_them_behind_a_prefix():
    model = model_of("llama")
    site = Site("resid_pre", 1)
    for padding in ("right", "left"):
        view = tiny_view(padding)

        def mark(state, view=view):
            changed = state.clone()
            changed[view.rows, view.columns] = 7.0
            return changed

        assert bool((capture(model, view, [site], edits={site: mark})[site] == 7).all())


def test_an_edit_that_returns_another_shape_is_refused():
    with pytest.raises(UserError, match=r"attn_out\.1.*shape"):
        capture(
            model_of("llama"),
            tiny_view(),
            [Site("final", -1)],
            edits={Site("attn_out", 1): lambda state: state[:, :1]},
        )


# -- what the user's model is afterwards ---------------------------------------------------------------------


def fingerprint_of(model):
    return [
        (
            name,
            type(module),
            sorted(k for k in module.__dict__ if not k.startswith("_")),
            list(module._forward_hooks),
        )
        for name, module in model.named_modules()
    ], model.config._attn_implementation


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_the_model_is_as_it_was(backend):
    model = tiny_model("llama", attention="sdpa")
    ids = tiny_view(prefix_length=0).ids
    before, logits = fingerprint_of(model), model(input_ids=ids).logits
    capture(model, tiny_view(), all_sites(model), backend=backend, edits={Site("attn_out", 1): ablate()})
    assert fingerprint_of(model) == before
    assert torch.equal(model(input_ids=ids).logits, logits)


@pytest.mark.parametrize("backend", OTHERS)
@torch.no_grad()
def test_copies_share_the_weights_and_follow_the_model(backend):
    model = tiny_model("llama")
    sites = all_sites(model)
    capture(model, tiny_view(), sites, backend=backend)
    model.model.layers[0].mlp.down_proj.weight.mul_(2)  # trained in place
    assert_same(capture(model, tiny_view(), sites, backend=backend), capture(model, tiny_view(), sites))
    model.model.layers[0].mlp.down_proj.weight = nn.Parameter(torch.ones(32, 48))  # replaced
    assert_same(capture(model, tiny_view(), sites, backend=backend), capture(model, tiny_view(), sites))


@pytest.mark.slow
def test_a_bridge_is_booted_once_with_eager_attention_and_goes_with_its_model():
    model = tiny_model("llama", attention="sdpa")
    gc.collect()
    known = len(lens._BRIDGES)
    assert lens.bridge_of(model) is lens.bridge_of(model)
    own = {id(p) for p in model.parameters()}
    assert {id(p) for p in lens.bridge_of(model).original_model.parameters()} == own
    assert len(lens._BRIDGES) == known + 1
    assert lens.bridge_of(model).original_model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"
    del model
    gc.collect()
    assert len(lens._BRIDGES) == known


@pytest.mark.slow
def test_nnsight_does_not_mount_save_on_every_object(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from cr_interp.capture.nnsight import load_nnsight\nimport os, sys\nassert 'nnsight' not in sys.modules\n"
        "n = load_nnsight()\n"
        "assert not hasattr(object, 'save') and 'NNSIGHT_CONFIG' not in os.environ and n.CONFIG.API.HOST\n"
    )
    found = warm.run([sys.executable, str(script)])
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_adapters(backend):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "o_proj", "down_proj"], init_lora_weights=False)
    model = peft.get_peft_model(tiny_model("llama"), config).eval()
    sites = all_sites(model)
    expected = capture(model, tiny_view(), sites)
    assert {check.status for check in check_sums(model, expected)} == {"pass"}
    assert_same(capture(model, tiny_view(), sites, backend=backend), expected)
    with model.disable_adapter():
        base = capture(model, tiny_view(), sites, backend=backend)
    assert_same(base, capture(tiny_model("llama"), tiny_view(), sites))
    assert difference(base, expected)[0] > 1e-3
    assert_same(capture(model, tiny_view(), sites, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_stays_half_precision(backend):
    model = tiny_model("gemma2").to(torch.bfloat16)
    sites = all_sites(model)
    for padding in ("right", "left"):
        states = capture(model, tiny_view(padding), sites, backend=backend)
        assert {state.dtype for state in states.values()} == {torch.bfloat16}
        assert_same(states, capture(model, tiny_view(), sites), 0.03)


# -- errors --------------------------------------------------------------------------------------------------


def test_sites_that_do_not_exist_are_refused_and_no_hook_stays():
    model = tiny_model("llama")
    for backend in BACKENDS:
        with pytest.raises(UserError, match="layers 0 to 2"):
            capture(model, tiny_view(), [Site("resid_post", 0), Site("resid_post", 3)], backend=backend)
    with pytest.raises(UserError, match="resid_post"):
        capture(model, tiny_view(), [Site("final", -1)], edits={Site("resid", 0): ablate()})
    with pytest.raises(ZeroDivisionError):
        capture(model, tiny_view(), [Site("final", -1)], edits={Site("z", 0): lambda state: 1 / 0})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(UserError, match="capture backend"):
        capture(model, tiny_view(), [Site("resid_post", 0)], backend="hook")


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_that_are_not_finite_name_the_site_and_the_rows(backend):
    model, view = model_of("llama"), tiny_view()
    sites = residual_sites(model)

    def spoil(state):
        changed = state.clone()
        changed[1, -1] = torch.nan if view.mask[1, -1] else 0
        changed[1, view.columns[view.rows == 1][0]] = torch.inf
        return changed

    edits = {Site("mlp_out", 1): spoil}
    with pytest.raises(NotFinite, match=r"At resid_post\.1, .*of 9 tokens.*in the rows 1 of"):
        capture(model, view, sites, backend=backend, edits=edits)
    states = capture(model, view, sites, backend=backend, edits=edits, check_finite=False)
    assert not torch.isfinite(states[Site("resid_post", 1)]).all()


def test_large_finite_states_are_not_refused():
    model = model_of("llama")
    site = Site("final", -1)
    states = capture(model, tiny_view(), [site], edits={site: lambda state: torch.full_like(state, 3e38)})
    assert torch.isfinite(states[site]).all()


def test_a_bridge_without_a_site_says_which_it_has(monkeypatch):
    monkeypatch.setitem(lens.EXCEPTIONS, "llama", {"z": "the heads are not apart"})
    with pytest.raises(UserError, match=r"heads are not apart\. It has resid_pre, attn_out"):
        capture(model_of("llama"), tiny_view(), [Site("z", 0)], backend="transformer_lens")


def test_an_architecture_without_a_bridge_is_refused(monkeypatch):
    model = tiny_model("llama")
    model.__class__ = type("ModernForCausalLM", (type(model),), {})
    with pytest.raises(UserError, match="no bridge for ModernForCausalLM"):
        capture(model, tiny_view(), [Site("final", -1)], backend="transformer_lens")


def test_order_and_prefix_are_as_asked():
    model, view = model_of("llama"), tiny_view()
    sites = [Site("final", -1), Site("resid_pre", 2), Site("z", 0)]
    states = capture(model, view, sites, prefix=encode_prefix(model, view.prefix))
    assert list(states) == sites
    assert capture(model, view, []) == {}
    assert all(len(state) == len(view.targets) for state in states.values())


def test_the_forward_ends_at_the_last_site_that_is_needed():
    model = tiny_model("llama")
    reached = []
    model.model.layers[2].register_forward_hook(lambda *_: reached.append(2))
    view = tiny_view(prefix_length=0)
    capture(model, view, [Site("resid_post", 1)])
    assert reached == []
    capture(model, view, [Site("resid_pre", 0), Site("final", -1)])
    assert reached == [2]


def test_every_architecture_of_the_table_is_tested():
    assert set(sites_module.ARCHITECTURES) == {
        {"gpt_neox": "gpt_neox:parallel", "gpt_neox:sequential": "gpt_neox"}.get(f, f) for f in ARCHITECTURES
    }
