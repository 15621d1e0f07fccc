"""What patching is held against: plain forwards with hooks, one sequence at a time, and models whose deciding place was written
by hand."""

import torch
from tiny import tiny_model

from cr_interp.capture.sites import hook_point
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.patching import DIRECTIONS
from cr_interp.models.loading import Loaded
from cr_interp.views import aligned_positions


class Tokenless:
    """Pads with 0 and ends with nothing: ids are given as they are."""

    pad_token_id, eos_token_id = 0, None


def loaded_of(model) -> Loaded:
    return Loaded("tiny", model, Tokenless())


def greedy(model, prompt, n):
    ids = list(prompt)
    for _ in range(n):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def some_pairs(model, seed=0):
    """Five prompts of unequal lengths, the context seven more ids, and what the model really answers."""
    generator = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(2, 64, (n,), generator=generator).tolist()

    start, context = ids(3), ids(7)
    pairs = []
    for i, (length, tokens) in enumerate(((4, 3), (6, 2), (5, 4), (3, 1), (6, 3))):
        prompt = ids(length)
        without, given = start + prompt, start + context + prompt
        answer = greedy(model, without, tokens)
        place = i % tokens
        other = (answer[place] + 5) % 64
        pairs.append(Pair(f"e{i}", f"c{i}", "harmed", without, given, answer, place, other))
    return pairs


def run_plainly(model, prompt, response, hooks):
    """Logits at the aligned positions of one sequence, by the library's own forward: no pads, no prefix, no shortcut."""
    handles = []
    for site, hook in hooks.items():
        module, side = hook_point(model, site)
        register = module.register_forward_pre_hook if side == "input" else module.register_forward_hook
        handles.append(register(hook))
    try:
        with torch.no_grad():
            return model(input_ids=torch.tensor([[*prompt, *response[:-1]]])).logits[0, columns(prompt, response)]
    finally:
        for handle in handles:
            handle.remove()


def columns(prompt, response):
    return list(aligned_positions(len(prompt), len(response)))


def state_of(args):
    """From what a hook is given: its last argument is a pre-hook's tuple of arguments, or a hook's output."""
    return args[-1][0] if isinstance(args[-1], tuple) else args[-1]


def plain(model, pair, cells):
    """(direction, cell) → what patching should say."""
    prompts = {"no_context": pair.without, "with_context": pair.given}
    sites = {site for cell in cells for site in cell.sites}
    kept, usual = {view: {} for view in prompts}, {}
    for view, prompt in prompts.items():

        def keep(site, view=view, prompt=prompt):
            def hook(_module, *args):
                kept[view][site] = state_of(args)[0, columns(prompt, pair.response)].clone()

            return hook

        usual[view] = run_plainly(model, prompt, pair.response, {site: keep(site) for site in sites})
    size = getattr(model.config, "head_dim", None) or model.config.hidden_size // 4

    def put(site, part, donor, receiver):
        def hook(_module, *args):
            state = state_of(args).clone()
            state[0, columns(prompts[receiver], pair.response), part] = kept[donor][site][:, part]
            return (state, *args[-1][1:]) if isinstance(args[-1], tuple) else state

        return hook

    rows = {}
    for direction, (donor, receiver) in DIRECTIONS.items():
        for cell in cells:
            part = slice(None) if cell.head is None else slice(cell.head * size, (cell.head + 1) * size)
            hooks = {site: put(site, part, donor, receiver) for site in cell.sites}
            patched = run_plainly(model, prompts[receiver], pair.response, hooks)
            three = {"received": usual[receiver], "given": usual[donor], "patched": patched}
            row = {
                name: (scores[pair.place, pair.own] - scores[pair.place, pair.other]).item()
                for name, scores in three.items()
            }
            whole = bool((patched.argmax(-1) == torch.tensor(pair.response)).all())
            rows[direction, str(cell)] = {**row, "answer": whole if direction == "repair" else not whole}
    return rows


def planted(layer=1, head=0, width=32, strength=100.0):
    """A Llama of three layers that repeats its last token, unless one head of one layer sees the id 9: then it says 5.

    Embedding and head are the identity, queries and keys and all other weights are 0: attention is the mean of what it
    sees, and only ``head`` of ``layer`` writes ("say 5") anything. Its keys and values are those of another head as well,
    which reads the same (the feature "is id 9") and writes nothing.
    """
    model = tiny_model("llama", layers=3, vocab_size=width, hidden_size=width, tie_word_embeddings=False)
    size = width // 4
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0) if "norm" in name else parameter.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(width))
        model.lm_head.weight.copy_(torch.eye(width))
        attention = model.model.layers[layer].self_attn
        attention.v_proj.weight[head // 2 * size, 9] = 1.0
        attention.o_proj.weight[5, head * size] = strength
    return model


def planted_pairs():
    """Every prompt ends in the id that it answers with; the context is one id 9."""
    return [
        Pair(f"e{i}", f"c{i}", "harmed", [2, 3, i], [2, 9, 3, i], [i], 0, 5) for i in (10, 11, 12, 13, 14, 15)
    ]
