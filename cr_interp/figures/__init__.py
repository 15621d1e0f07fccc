"""Every plot of the project, each a pure function from a tidy table to a plotly Figure.

Mental model: table in, figure out. Nothing here reads a file, knows Streamlit or needs torch, so the app, the
notebooks and the README's pictures draw the same thing. Three rules hold everywhere:

- An arm has one colour and one marker, whichever figure it is in (:func:`arm_colour`, :func:`arm_symbol`).
  The colours are Okabe and Ito's, which stay apart for colour-blind readers; the marker says it once more.
- A figure knows what it shows: :func:`caption` gives its n, seeds, estimator and interval, :func:`alt_text`
  a description for those who cannot see it. Both travel in ``figure.layout.meta``.
- Backgrounds are transparent and the grid is a half-transparent grey: light and dark pages both work.

Names that come from a table are escaped, since plotly reads some HTML in labels.

    style, marks                                  colours, words and captions; what many figures draw alike
    behaviour, cases, regimes                     answers: metrics, the four cases, a suite's plane of Harm and change
    drift → behind, beside, flips                 states by layer, what stands behind them, beside their controls, and of flips
    maps → cells                                  layer against layer; cells that can be clicked
    token_html, token_strips                      tokens
    mechanism, heads, why → patched               where an answer is decided, which heads, who reads; what these share
    directions, probes, updates, gradients        what training left
    training                                      over steps
    suite, suite_curves                           settings side by side
    tryout, lens_answer                           what somebody has just tried
    pair_html, prompt_html, table_html, verdict_html    what is read as HTML: answers, tables, the verdict
"""

from cr_interp.system.lazily import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "metric_forest": "behaviour",
        "outcomes_bar": "behaviour",
        "drift_by_layer": "drift",
        "drift_difference": "drift",
        "mark_layers": "drift",
        "Kind": "maps",
        "kind_of": "maps",
        "map_kinds": "maps",
        "map_table": "maps",
        "map_difference": "maps",
        "map_panels": "maps",
        "difference_panels": "maps",
        "profile_curves": "maps",
        "regime_scatter": "regimes",
        "harm_forest": "suite",
        "difference_forest": "suite",
        "early_gap_curves": "suite_curves",
        "drift_small_multiples": "suite_curves",
        "training_columns": "training",
        "is_loss": "training",
        "training_curves": "training",
        "metrics_over_steps": "training",
        "drift_steps": "training",
        "at_step": "training",
        "step_table": "training",
        "drift_at_step": "training",
        "extremes_by_step": "training",
        "drift_over_steps": "training",
        "decided": "mechanism",
        "head_map": "heads",
        "window_map": "heads",
        "below": "mechanism",
        "knockout_curves": "why",
        "attention_map": "why",
        "attention_heads": "why",
        "lens_curves": "why",
        "lens_tokens": "lens_answer",
        "text_html": "token_html",
        "strips": "token_strips",
        "response_drift": "tryout",
        "parting_lens": "tryout",
        "stride": "cells",
        "add_cells": "cells",
        "mark_cell": "cells",
        "clicked": "cells",
        "arm_colour": "style",
        "arm_symbol": "style",
        "caption": "style",
        "alt_text": "style",
        "on_paper": "style",
        "to_page": "style",
        "log_ticks": "style",
        "finish": "style",
        "place_legend": "style",
        "empty_figure": "style",
        "translucent": "style",
        "safe_text": "style",
        "strands": "style",
        "hover_columns": "style",
        "layer_ticks": "style",
        "whole_range": "style",
        "listed_seeds": "style",
        "ARM_COLOURS": "style",
        "FALLBACK_COLOURS": "style",
        "MEASURES": "cr_interp.vocabulary",
        "METRICS": "cr_interp.vocabulary",
        "MOVEMENTS": "cr_interp.vocabulary",
        "arm_order": "cr_interp.vocabulary",
        "extreme_layer": "cr_interp.tables.drift",
        "extreme_word": "cr_interp.tables.drift",
        "layer_table": "cr_interp.tables.drift",
        "four_cells": "cases",
        "responses_html": "pair_html",
    },
)
