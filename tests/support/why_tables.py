"""Small tables of knockout, attention and lens in which every number is known."""

import numpy as np
import pandas as pd

RUN = {"arm": "opd", "step": 100, "group": "harmed", "n_examples": 20}


def knockout():
    """Two seeds; cutting the context in layer 1 repairs half, in all layers everything; elsewhere nothing."""
    rows = []
    for seed in (0, 1):
        for span, cut in (("context", 32.0), ("system", 30.0)):
            for readers in ("aligned", "all"):
                for layer, width, value in ((0, 1, 0.1), (1, 1, 0.5 + 0.2 * seed), (2, 1, 0.0), (0, 3, 1.0)):
                    for control, scale in (("none", 1.0), ("elsewhere", 0.0)):
                        estimate = value * scale * (1.0 if span == "context" else 0.5)
                        rows.append(
                            {
                                **RUN,
                                "seed": seed,
                                "span": span,
                                "readers": readers,
                                "layer": layer,
                                "width": width,
                                "control": control,
                                "readout": "share",
                                "estimate": estimate,
                                "low": estimate - 0.1,
                                "high": estimate + 0.1,
                                "before": 0.0,
                                "cut": cut if control == "none" else 12.0,
                            }
                        )
    return pd.DataFrame(rows)


def attention():
    rows = []
    for view, spans in (
        ("no_context", ("sink", "prompt")),
        ("with_context", ("sink", "system", "prompt", "context")),
    ):
        for layer in (0, 1):
            for head in (-1, 0, 1):
                for span in spans:
                    mass = 0.25 + 0.5 * (span == "system" and layer == 1 and head == 1)
                    row = {
                        **RUN,
                        "seed": 0,
                        "view": view,
                        "span": span,
                        "layer": layer,
                        "head": head,
                        "estimate": mass,
                        "low": mass - 0.1,
                        "high": mass + 0.1,
                    }
                    rows.append({**row, "control": "none"})
                    if head < 0:
                        rows.append({**row, "control": "even", "estimate": 0.2, "low": np.nan, "high": np.nan})
    return pd.DataFrame(rows)


def lens():
    rows = []
    for site, layer in (("resid_pre", 0), ("resid_post", 0), ("resid_post", 1)):
        for view in ("no_context", "with_context"):
            for token in ("right", "wrong"):
                ahead = (token == "right") == (view == "no_context" or site == "resid_pre" or layer == 0)
                for control in ("none", "other"):
                    for readout, value in (("logprob", -1.0 if ahead else -5.0), ("rank", 1.0 if ahead else 9.0)):
                        rows.append(
                            {
                                **RUN,
                                "seed": 0,
                                "view": view,
                                "site": site,
                                "layer": layer,
                                "token": token,
                                "control": control,
                                "readout": readout,
                                "estimate": value,
                                "low": value - 0.5,
                                "high": value + 0.5,
                            }
                        )
        for control, kl in (("none", float(layer)), ("other", 3.0)):
            rows.append(
                {
                    **RUN,
                    "seed": 0,
                    "view": "between",
                    "site": site,
                    "layer": layer,
                    "token": "all",
                    "control": control,
                    "readout": "kl",
                    "estimate": kl,
                    "low": kl,
                    "high": kl,
                }
            )
    return pd.DataFrame(rows)
