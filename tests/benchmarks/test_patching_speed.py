"""Patching all layers and three sites for 64 examples, against whoever else can do it, and against the operations it needs.

Five ways, the same cells and the same answers (their logit differences have to agree):

    ours                 ``patch_cells``: the aligned positions only, from the patched layer on, all that comes before kept
    naive                one plain forward a cell, from token 0 and through the whole model, with a hook that writes by row
    hooks                our own way without restarting: the shared prefix kept, every block run
    TransformerLens      its bridge with hooks that write by row, behind the shared prefix; it cannot start at a later block
    nnsight              a trace behind the shared prefix that skips the blocks before the patched one

Neither library has patching of views of unequal length, aligned positions, or rows' own keys and values behind a shared prefix,
so all three are written here around them, with our batches; what they keep is what they can. One thread and its own
CPU time, so that the ratios do not depend on what else runs. Of the model of SmolLM2's size some layers are timed, of fewer
examples, and the others by one cell in the middle.

Where the answers are short beside the rest of the prompts, ours runs a fraction of the tokens that the others do. In the organism
it is 7 of 24 tokens, so the operations alone allow 3.4 × of what runs all behind the shared prefix: there the target of 4 × is
reached, or not, by what is saved beside them.
"""

import time

import pytest
import torch
from patched import loaded_of
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from cr_interp.capture.copies import shared_copy
from cr_interp.capture.nnsight import _wrap, load_nnsight
from cr_interp.capture.sites import blocks, hook_point
from cr_interp.mechanism.batches import Views
from cr_interp.mechanism.cells import site_cells
from cr_interp.mechanism.given import Pair
from cr_interp.mechanism.patching import DIRECTIONS, by_layer, patch_cells
from cr_interp.mechanism.runs import Captured
from cr_interp.models.forward import device_of, run_inputs
from cr_interp.models.generation import Decoding, respond

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3000)]
SITES = ("resid_post", "attn_out", "mlp_out")
#: Of a model: blocks, width, MLP, heads, key heads, words; tokens of the context, of the prompts, of the answers; examples; the
#: layers whose cells are timed (None: all), and of how many of these cells the slow ways are.
SIZES = {
    "organism": (4, 96, 288, 4, 4, 64, 40, (14, 20), 7, 64, None, 13),
    "SmolLM2": (30, 576, 1536, 9, 3, 49152, 169, (30, 40), 3, 8, (5, 15, 25), 1),
}
#: Times the best of the others; the target is 4.
LEAST = {"organism": 2.5, "SmolLM2": 4}


def setting(name):
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width, wide, heads, key_heads, words, context, (least, most), tokens, examples, timed, slow = SIZES[
        name
    ]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=words,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    draw = torch.Generator().manual_seed(1)

    def ids(n):
        return torch.randint(2, words, (n,), generator=draw).tolist()

    start, before = ids(6), ids(context)
    prompts = [ids(int(torch.randint(least, most + 1, (1,), generator=draw))) for _ in range(examples)]
    without, given = [start + p for p in prompts], [start + before + p for p in prompts]
    answers = [list(r.ids) for r in respond(model, without, Decoding(tokens), [])]
    pairs = [
        Pair(
            f"e{i}",
            f"c{i}",
            "harmed",
            without[i],
            given[i],
            answers[i],
            i % tokens,
            (answers[i][i % tokens] + 1) % words,
        )
        for i in range(examples)
    ]
    cells = [c for c in site_cells(model, SITES) if timed is None or c.site.layer in timed]
    return loaded_of(model), pairs, cells, slow


def whole(loaded, pairs, cells):
    """All of an analysis of both directions with controls, as ``explain`` runs it: seconds a patched run."""
    began = time.process_time()
    patch_cells(loaded, pairs, cells)
    return (time.process_time() - began) / len(cells) / 6


def by_runs(loaded, pairs, cells, final, restart=False):
    """Repair's logit differences with the donor's states: (cell, example) → number, and seconds a cell.

    ``final(batch, view, put)`` gives a cell's last states. What is read once for all cells is not timed.
    """
    said, spent = {}, 0.0
    donor, receiver = DIRECTIONS["repair"]
    for batch in Views(loaded, pairs, restart=restart).batches(len(pairs)):
        for cell, states in by_layer(batch, cells):
            began = time.process_time()
            read = batch.read(final(batch, receiver, {cell.site: states[donor][cell.site]}))
            spent += time.process_time() - began
            said |= {
                (str(cell.site), p.example_id): d.item() for p, d in zip(pairs, read.difference, strict=True)
            }
    return said, spent / len(cells)


def naive(loaded, pairs):
    """A forward of whole sequences, right padded, logits everywhere."""
    rows = [[*p.given, *p.response[:-1]] for p in pairs]
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
    at = [(i, len(p.given) - 1 + j) for i, p in enumerate(pairs) for j in range(len(p.response))]
    where = tuple(torch.tensor(each) for each in zip(*at, strict=True))

    def final(batch, view, put):
        ((site, states),) = put.items()
        module, side = hook_point(loaded.model, site)

        def hook(_module, *args):
            whole = args[-1]
            state = (whole[0] if isinstance(whole, tuple) else whole).clone()
            state[where] = states
            return (state, *whole[1:]) if isinstance(whole, tuple) else state

        register = module.register_forward_pre_hook if side == "input" else module.register_forward_hook
        handle = register(hook)
        try:
            return loaded.model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states[-1][
                where
            ]
        finally:
            handle.remove()

    return final


def skipping(loaded):
    """nnsight: blocks before the patched one are skipped, with the stream that was read once handed to it."""
    save = load_nnsight().save
    wrapper = _wrap(shared_copy(loaded.model))
    streams = {}

    def final(batch, view, put):
        run = batch.runs[view]
        ((site, states),) = put.items()
        first = site.layer + (site.name == "resid_post")
        rows, columns = run.view.rows, run.view.columns
        inputs = run_inputs(loaded.model, run.prefix, run.view.ids.to(device_of(loaded.model)), run.view.mask)
        if not streams:
            with wrapper.trace(**inputs):
                kept = []
                for layer in range(len(wrapper.layers)):
                    kept.append(wrapper.layers[layer].output)
                kept = save(kept)
            streams.update(enumerate(kept))
        stream = streams[max(0, first - 1)].clone()
        if site.name in ("resid_post", "resid_pre"):
            stream[rows, columns] = states
        with wrapper.trace(**inputs):
            for layer in range(first):
                wrapper.layers[layer].skip(stream)
            if site.name == "resid_pre":
                state = wrapper.layers[0].input.clone()
                state[rows, columns] = states
                wrapper.layers[0].input = state
            elif site.name == "attn_out":
                output = wrapper.layers[first].self_attn.output
                state = output[0].clone()
                state[rows, columns] = states
                wrapper.layers[first].self_attn.output = (state, *output[1:])
            elif site.name == "mlp_out":
                state = wrapper.layers[first].mlp.output.clone()
                state[rows, columns] = states
                wrapper.layers[first].mlp.output = state
            last = save(wrapper.norm.output)
        return last[rows, columns]

    return final


def by_backend(loaded, pairs, backend):
    def final(batch, view, put):
        run = batch.runs[view]
        return Captured(loaded.model, run.view, run.prefix, backend).final(put)

    return final


def needed(loaded, pairs, cells):
    """Operations of an analysis that cannot be avoided: both views once, and per cell what is behind the patch. Attention scores
    are left out, so the ratio is a little too high."""
    model = loaded.model
    block = model.model.layers[0]
    attention = sum(p.numel() for n, p in block.self_attn.named_parameters() if p.dim() > 1)
    mlp = sum(p.numel() for n, p in block.mlp.named_parameters() if p.dim() > 1)
    head = model.get_output_embeddings().weight.numel()
    layers, tokens = len(blocks(model)), sum(len(p.response) for p in pairs)
    whole = layers * (attention + mlp)
    read = 0
    for view in ("without", "given"):
        prompts = [getattr(p, view) for p in pairs]
        shared = 6 if view == "without" else 6 + len(pairs[0].given) - len(pairs[0].without)
        own = sum(len(prompt) - 1 - shared for prompt in prompts)
        read += (shared + own + tokens) * whole + tokens * head
    patched = 0
    for cell in cells:
        behind = layers - cell.site.layer - (cell.site.name != "resid_pre")
        patched += tokens * (behind * (attention + mlp) + head + (mlp if cell.site.name == "attn_out" else 0))
    return 2 * (read + 6 * patched)  # two directions, the effect and two controls


@pytest.mark.parametrize("name", list(SIZES))
def test_restarted_patching_against_everybody_else(name):
    loaded, pairs, cells, slow = setting(name)
    middle = [c for c in cells if c.site.layer == 15 and c.site.name == "attn_out"]
    few = cells if slow == len(cells) else middle[:slow]
    with torch.no_grad():
        ways = {
            "ours": lambda batch, view, put: batch.runs[view].final(put),
            "naive": naive(loaded, pairs),
            "hooks": by_backend(loaded, pairs, "hooks"),
            "TransformerLens": by_backend(loaded, pairs, "transformer_lens"),
            "nnsight": skipping(loaded),
        }
        for way, final in ways.items() if few is cells else ():
            by_runs(loaded, pairs, few[:1], final, way == "ours")  # warm up
        ours, each = by_runs(loaded, pairs, cells, ways["ours"], restart=True)
        times = {"ours, all of an analysis": whole(loaded, pairs, cells)}
        for way in list(ways)[1:]:
            said, times[way] = by_runs(loaded, pairs, few, ways[way])
            assert max(abs(said[key] - ours[key]) for key in said) < 2e-3, way
        with FlopCounterMode(display=False) as counter:
            patch_cells(loaded, pairs, cells)
    operations = counter.get_total_flops() / needed(loaded, pairs, cells)
    table = Table(title=f"{name}: patching {len(cells)} cells of {len(pairs)} examples, one thread")
    for column in ("way", "CPU s a cell", "times ours"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, seconds in {"ours": each, **times}.items():
        table.add_row(way, f"{seconds:.4f}", f"{seconds / each:.1f}")
    Console().print(table)
    best = min(("TransformerLens", "nnsight", "naive"), key=lambda way: times[way])
    Console().print(
        f"{times[best] / each:.1f} × faster than {best}, the best of the others; {operations:.2f} × the operations needed"
    )
    assert operations <= 1.3
    assert times[best] / each >= LEAST[name]
