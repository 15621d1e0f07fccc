"""Models: load one, run it on a view, let it answer.

Mental model. :func:`load` gives a model and its tokenizer, checked: every tensor came from the file. A *view* of several
prompts becomes a :class:`ViewBatch`, whose common prefix is computed once; :func:`hidden_states` runs the backbone on it
without the LM head, :func:`logits` adds the head, :func:`generate` samples responses.

    loaded = load("builtin:organism-llama")
    view = build_view(prompts, responses, loaded.pad_id)
    states = hidden_states(loaded.model, view)          # [token, width], the aligned positions
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
