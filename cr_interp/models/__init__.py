"""Models: load one, run it on a view, let it answer.

Mental model. :func:`load` gives a model and its tokenizer, checked: every tensor came from the file. A *view* of several
prompts becomes a :class:`ViewBatch`, whose common prefix is computed once; :func:`hidden_states` runs the backbone on it
without the LM head, :func:`logits` adds the head, :func:`generate` samples responses.

    loaded = load("builtin:organism-llama")
    view = build_view(prompts, responses, loaded.pad_id)
    states = hidden_states(loaded.model, view)          # [token, width], the aligned positions

    loading → weights, tensors       a checked model, whether all its tensors are there, and one tensor at a time
    known, named_models              which models come along; what a name alone says of one
    fingerprints                     which model it is, and which tokenizer
    bombs, sizes, probe, suitable    folders from anybody: what is refused, and what is tried out in a process of its own
    adapters, shards, devices        LoRA's weights, weights spread over processes, where a model runs
    templates, turn_end              the chat template's variables; which token ends a turn
    layout → forward → aligned       a view as a batch, the run over it, and the aligned positions as a batch of their own
    batching, grouping, prefix_cache which sequences share a run, which share a prefix, and the keys that are kept for it
    rope, short_cuts                 where sharing would change a number: long rotary factors, and a trial of every short cut
    generation                       responses: greedy or sampled
"""

from cr_interp.system.lazily import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Loaded": "loading",
        "load": "loading",
        "fingerprint": "loading",
        "tokenizer_fingerprint": "loading",
        "ViewBatch": "forward",
        "build_view": "forward",
        "encode_prefix": "forward",
        "hidden_states": "forward",
        "logits": "forward",
        "log_probs": "forward",
        "Decoding": "generation",
        "Response": "generation",
        "generate": "generation",
        "chosen_device": "devices",
        "fix_template": "templates",
    },
)
