"""Values against a plain float64 reference; gradients only where the paper says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cr_interp.errors import UserError
from training.objectives import ARMS, arm_terms, gradient_into, needs, parse_term
from training.run.losses import losses

OWNER = torch.tensor([0, 0, 0, 1, 2, 2])


def distributions(seed=0, vocabulary=11):
    torch.manual_seed(seed)
    raw = {name: torch.randn(len(OWNER), vocabulary, requires_grad=True) for name in ("q_x", "q_c", "f")}
    return raw, {name: value.log_softmax(-1) for name, value in raw.items()}


def reference(terms, log_p, top_k=None, sequence=False):
    """Float64, token by token, in plain Python."""
    total = 0.0
    for term in terms:
        per_token = []
        for t in range(len(OWNER)):
            p, q = (log_p[name][t].detach().double().exp() for name in (term.p, term.q))
            if top_k:
                keep = log_p["q_x"][t].topk(top_k).indices
                p, q = p[keep] / p[keep].sum(), q[keep] / q[keep].sum()
            per_token.append(sum(float(a * torch.log(a / b)) for a, b in zip(p, q, strict=True)))
        if sequence:
            groups = [[k for k, o in zip(per_token, OWNER.tolist(), strict=True) if o == i] for i in range(3)]
            per_token = [sum(g) / len(g) for g in groups]
        total += term.weight * sum(per_token) / len(per_token)
    return total


@pytest.mark.parametrize("arm", [arm for arm, terms in ARMS.items() if terms])
@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_losses_equal_a_plain_reference(arm, top_k, reduction):
    _, log_p = distributions()
    terms = arm_terms(arm)
    found = losses(terms, log_p, OWNER, top_k, reduction)
    expected = reference(terms, log_p, top_k, reduction == "sequence_mean")
    assert found.total.item() == pytest.approx(expected, rel=1e-5)
    assert len(found.terms) == len(terms)
    weighted = sum(t.weight * v for t, v in zip(terms, found.terms.values(), strict=True))
    assert weighted.item() == pytest.approx(found.total.item(), rel=1e-6)


def test_captured_mass_is_the_support_s_share_under_each_distribution():
    _, log_p = distributions()
    found = losses(arm_terms("nca"), log_p, OWNER, top_k=3)
    support = log_p["q_x"].topk(3).indices
    for name, values in log_p.items():
        assert found.mass[name] == pytest.approx(values.gather(-1, support).exp().sum(-1).mean().item(), rel=1e-6)
    assert losses(arm_terms("nca"), log_p, OWNER).mass == {"q_x": 1.0, "q_c": 1.0, "f": 1.0}


def gradients(term, stop_at=None):
    raw, log_p = distributions()
    losses([parse_term(term)], log_p, OWNER).total.backward()
    return {name: value.grad is not None and bool(value.grad.abs().sum() > 1e-6) for name, value in raw.items()}


def test_gradients_flow_only_where_they_should():
    assert gradients("KL(q_x || f)") == {"q_x": True, "q_c": False, "f": False}
    assert gradients("0.5 * KL(sg[q_x] || q_c)") == {"q_x": False, "q_c": True, "f": False}
    assert gradients("KL(q_c || f)") == {"q_x": False, "q_c": True, "f": False}
    assert gradients("KL(q_x || q_c)") == {"q_x": True, "q_c": True, "f": False}
    assert gradients("KL(q_c || sg[q_x])") == {"q_x": False, "q_c": True, "f": False}


def test_what_no_term_looks_at_is_known_beforehand():
    opd, nca = arm_terms("opd"), arm_terms("nca")
    assert not needs(opd, "q_c")
    assert needs(nca, "q_c")
    assert gradient_into(nca, "q_c")
    assert not gradient_into([parse_term("KL(sg[q_x] || q_c)")], "q_x")


def gate(log_p, token, scale, support=slice(None)):
    q_x, f = (log_p[name][token].detach().double().exp()[support] for name in ("q_x", "f"))
    q_x, f = q_x / q_x.sum(), f / f.sum()
    return math.exp(-sum(float(a * torch.log(a / b)) for a, b in zip(q_x, f, strict=True)) / scale)


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_a_gated_term_equals_a_plain_reference(scale, top_k):
    _, log_p = distributions()
    expected = 0.0
    for t in range(len(OWNER)):
        keep = log_p["q_x"][t].topk(top_k).indices if top_k else slice(None)
        p, q = (log_p[name][t].detach().double().exp()[keep] for name in ("q_x", "q_c"))
        p, q = p / p.sum(), q / q.sum()
        expected += gate(log_p, t, scale, keep) * sum(
            float(a * torch.log(a / b)) for a, b in zip(p, q, strict=True)
        )
    found = losses([parse_term(f"2 * near({scale}) * KL(sg[q_x] || q_c)")], log_p, OWNER, top_k)
    assert found.total.item() == pytest.approx(2 * expected / len(OWNER), rel=1e-5)
    assert list(found.terms) == [f"near({scale:g}) * KL(sg[q_x] || q_c)"]


def test_an_anchor_to_a_mixture_equals_a_plain_reference():
    _, log_p = distributions()
    expected = 0.0
    for t in range(len(OWNER)):
        q_x, q_c, f = (log_p[name][t].detach().double().exp() for name in ("q_x", "q_c", "f"))
        g = gate(log_p, t, 0.7)
        mixed = g * q_x + (1 - g) * f
        expected += sum(float(a * torch.log(a / b)) for a, b in zip(mixed, q_c, strict=True))
    found = losses([parse_term("KL(sg[mix(q_x, f, 0.7)] || q_c)")], log_p, OWNER)
    assert found.total.item() == pytest.approx(expected / len(OWNER), rel=1e-5)


@pytest.mark.parametrize("term", ["near(0.5) * KL(sg[q_x] || q_c)", "KL(sg[mix(q_x, f, 0.5)] || q_c)"])
def test_neither_gate_nor_mixture_gets_a_gradient(term):
    assert gradients(term) == {"q_x": False, "q_c": True, "f": False}
    assert needs([parse_term(term)], "f")  # the gate needs the teacher, whom neither side may name
    assert not gradient_into([parse_term(term)], "q_x")


def test_where_the_context_is_internalised_the_adaptive_anchors_are_the_anchor_and_where_it_is_far_they_let_go():
    torch.manual_seed(1)
    q_x, q_c, other = torch.randn(3, len(OWNER), 11, dtype=torch.float32).log_softmax(-1)

    def value(term, f):
        return losses([parse_term(term)], {"q_x": q_x, "q_c": q_c, "f": f}, OWNER).total.item()

    anchor = value("KL(sg[q_x] || q_c)", q_x)
    assert value("near(0.1) * KL(sg[q_x] || q_c)", q_x) == pytest.approx(anchor, rel=1e-5)
    assert value("KL(sg[mix(q_x, f, 0.1)] || q_c)", q_x) == pytest.approx(anchor, rel=1e-5)
    assert value("near(0.01) * KL(sg[q_x] || q_c)", other) == pytest.approx(0, abs=1e-6)
    assert value("KL(sg[mix(q_x, f, 0.01)] || q_c)", other) == pytest.approx(
        value("KL(f || q_c)", other), rel=1e-5
    )


@given(st.floats(0.01, 10), st.sampled_from(["q_x", "q_c"]), st.booleans(), st.booleans())
def test_terms_read_what_they_write(weight, p, stop_p, stop_q):
    side = {True: "sg[{}]", False: "{}"}
    text = f"{weight:.3g} * KL({side[stop_p].format(p)} || {side[stop_q].format('f')})"
    term = parse_term(text)
    assert parse_term(str(term)) == term
    assert (term.stop_p, term.stop_q, term.weight) == (stop_p, stop_q, float(f"{weight:.3g}"))


@pytest.mark.parametrize("text", ["near(2) * KL(sg[mix(q_x, f, 0.5)] || q_c)", "0.5 * near(0.25) * KL(q_x || f)"])
def test_gates_and_mixtures_read_what_they_write(text):
    assert str(parse_term(text)) == text
    assert parse_term(text.replace(" ", "")) == parse_term(text)


@pytest.mark.parametrize(
    "text",
    [
        "KL(mix(q_x, f, 1) || q_c)",
        "KL(sg[mix(q_x, 1)] || q_c)",
        "near() * KL(q_x || f)",
        "KL(q_x, f)",
        "KL(q_z || f)",
        "- KL(q_x || f)",
        "KL(sg[q_x || f)",
        "",
    ],
)
def test_malformed_terms_show_a_good_one(text):
    with pytest.raises(UserError, match=r"0\.5 \* KL"):
        parse_term(text)


def test_refusals():
    with pytest.raises(UserError, match="itself"):
        parse_term("KL(q_x || sg[q_x])")
    with pytest.raises(UserError, match="Did you mean 'nca'"):
        arm_terms("ncaa")
    with pytest.raises(UserError, match="before training"):
        arm_terms("base")
    with pytest.raises(UserError, match="top_k = 1"):
        losses(arm_terms("opd"), distributions()[1], OWNER, top_k=1)
    for shut in ("near(0) * KL(sg[q_x] || q_c)", "KL(sg[mix(q_x, f, 0)] || q_c)"):
        with pytest.raises(UserError, match="scale 0"):
            parse_term(shut)
    with pytest.raises(UserError, match="with itself"):
        parse_term("KL(sg[mix(f, f, 1)] || q_c)")
    own = arm_terms("mine", {"mine": ["2 * KL(f || q_x)"]})
    assert own[0].weight == 2
