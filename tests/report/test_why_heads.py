"""The report's parts on heads and windows, made of a study's stored tables."""

import pandas as pd
from synthetic import make_study

from cr_interp.report.parts import Drawing, Numbers
from cr_interp.report.sections import sections


def rows(cells, **common):
    return pd.DataFrame(
        [
            {
                "arm": "opd",
                "seed": 0,
                "step": 100,
                "group": "harmed",
                "direction": direction,
                "layer": layer,
                "control": control,
                "readout": "share",
                "estimate": value * scale,
                "low": value * scale - 0.1,
                "high": value * scale + 0.1,
                "before": 0.0,
                "n_examples": 12,
                which: cell,
                **common,
            }
            for direction in ("repair", "break")
            for layer, which, cell, value in cells
            for control, scale in (("none", 1.0), ("random", 0.125), ("other", 0.25))
        ]
    )


def test_heads_and_windows_stand_beside_their_controls(tmp_path):
    study = make_study(tmp_path / "s", arms=("base", "opd"), seeds=(0,), examples=20)
    cells = [(0, "head", 1, 0.4), (1, "head", 0, 0.8)]
    study.put("patching_heads", rows(cells, site="z", chosen="first"))
    study.put("attribution", rows(cells, site="z"))
    study.put("patching_windows", rows([(0, "width", 2, 0.6)], site="attn_out"))
    parts = {section.anchor: section for section in sections(study)}["mechanism"].parts
    tables = [part.table for part in parts if isinstance(part, Numbers)]
    heads, windows = (next(each for each in tables if which in each) for which in ("head", "layers"))
    assert heads.iloc[0][["head", "share [95 %]", "random", "other", "n"]].tolist() == [
        "1.0",
        "0.80 [0.70, 0.90]",
        "0.10",
        "0.20",
        "12",
    ]
    assert windows.iloc[0][["layers", "share [95 %]"]].tolist() == ["attn_out 0–1", "0.60 [0.50, 0.70]"]
    assert sum(isinstance(part, Drawing) for part in parts) == 2
