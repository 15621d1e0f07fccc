"""cr_interp: what a privileged context still does to a model that is supposed to have internalised it.

The names below are loaded when they are first used, so importing this package loads neither torch nor transformers.

    >>> import cr_interp as cr
    >>> loaded = cr.load("builtin:organism-rules")
    >>> context = cr.Context.system("write the next letter for each")
    >>> prompts = ["abcd", "hello"]
    >>> without, behind = ([cr.render(loaded.tokenizer, each, c) for each in prompts] for c in (None, context))
    >>> responses = [loaded.tokenizer.encode(each, add_special_tokens=False) for each in ("bcde", "ifmmp")]
    >>> sites = cr.residual_sites(loaded.model)
    >>> x, y = (
    ...     cr.capture_states(loaded.model, cr.build_view(view, responses, loaded.pad_id), sites)
    ...     for view in (without, behind)
    ... )
    >>> x[cr.Site("resid_post", 0)].shape                         # [aligned positions, width]
    torch.Size([9, 96])
    >>> example = cr.owners(responses)                            # which response each row is of
    >>> table = cr.panel(x, y, example)                           # every measure of every layer, with its floor
    >>> {"cosine", "relative_l2", "cka"} <= set(table["measure"])
    True
    >>> figure = cr.drift_by_layer(table)                         # a Plotly figure
    >>> cr.cka_map(x, y).shape
    (5, 5)
    >>> cr.open_study("organism-shift").table("drift").columns[:3].tolist()
    ['arm', 'seed', 'step']
"""

from cr_interp.system import former
from cr_interp.system.lazily import lazily

former.answer()

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Context": "cr_interp.views",
        "render": "cr_interp.views",
        "load": "cr_interp.models.loading",
        "build_view": "cr_interp.models.forward",
        "Decoding": "cr_interp.models.generation",
        "generate": "cr_interp.models.generation",
        "Site": "cr_interp.capture.sites",
        "residual_sites": "cr_interp.capture.sites",
        "capture_states": "cr_interp.capture.states_of",
        "owners": "cr_interp.capture.states_of",
        "cka": "cr_interp.similarity",
        "cka_map": "cr_interp.similarity",
        "panel": "cr_interp.similarity",
        "PairMoments": "cr_interp.similarity",
        "knn_overlap": "cr_interp.similarity",
        "Pair": "cr_interp.mechanism.given",
        "patch_pairs": "cr_interp.mechanism.patching",
        "compare_checkpoints": "cr_interp.measure.compare",
        "open_study": "cr_interp.study.searching",
        "find_studies": "cr_interp.study.searching",
        "metric_table": "cr_interp.tables.metrics",
        "drift_by_layer": "cr_interp.figures.drift",
    },
)
