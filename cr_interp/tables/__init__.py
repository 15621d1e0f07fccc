"""Stored tables in, answers out: pandas only, no model, no figure, no file.

behaviour      generations → the paper's metrics, with intervals; differences between arms
obedience      generations → is a new instruction followed?
drift          drift → a measure per layer, the layer that moves most
methods        drift, cka_map → how earlier tables were computed; the example level of a map
controls       drift → a measure under every context control, beside its floor
example_pairs  generations → prompts whose answers flip
token_view     token_drift → which tokens move, arms aligned
suite          several studies side by side; ablations
matching, pairing   what the others share
"""
