"""The place of a site on a layer axis: one rule, of a single site and of a column."""

import pandas as pd

from cr_interp.tables.drift import placed
from cr_interp.tables.flips_by_drift import over_seeds
from cr_interp.tables.lens import lens_table
from cr_interp.tables.patching import on_the_axis
from cr_interp.tables.probes import probe_table
from cr_interp.tables.token_view import place
from cr_interp.vocabulary import EMBEDDING, OUTPUT, place_of, places_of, site_at

#: What the first block reads is the embedding; what a later one reads is not.
RULE = {("resid_pre", 0): -1, ("resid_post", 0): 0, ("attn_out", 0): 0, ("resid_pre", 2): 2, ("resid_post", 3): 3}


def sites(**more: object) -> pd.DataFrame:
    return pd.DataFrame({"site": [site for site, _ in RULE], "layer": [layer for _, layer in RULE]}).assign(
        arm="opd", seed=0, step=5, **more
    )


def test_of_one_site_and_of_a_column():
    assert [place_of(*each) for each in RULE] == list(RULE.values())
    assert list(places_of(sites())) == list(RULE.values())
    assert [place_of(*site_at(number)) for number in (EMBEDDING, 0, 7)] == [EMBEDDING, 0, 7]
    assert site_at(2, "mlp_out") == ("mlp_out", 2)


def test_every_table_follows_it():
    numbers = {"estimate": 0.5, "low": 0.4, "high": 0.6, "n_examples": 9}
    wanted = sorted(set(RULE.values()))
    probes = sites(question="presence", tested="a", control="none", **numbers)
    assert sorted(set(probe_table(probes, tested="a")["place"])) == wanted
    lens = sites(group="harmed", readout="rank", view="no_context", token="right", control="none", **numbers)
    assert sorted(set(lens_table(lens, readout="rank")["place"])) == wanted
    flips = sites(measure="cosine", p=0.1, within_p=0.1, within_class=0.5, within_low=0.4, within_high=0.6,
                  n_flipped=1, n_kept=2, **numbers)  # fmt: skip
    assert sorted(set(over_seeds(flips)["place"])) == wanted
    assert list(on_the_axis(sites())["place"]) == list(RULE.values())
    assert sorted(placed(sites())["place"]) == [-1, 0, 3]  # what a later block reads is left out
    tokens = pd.concat([sites(), pd.DataFrame({"site": ["output"], "layer": [0]})])
    assert list(place(tokens)) == [*RULE.values(), OUTPUT]
