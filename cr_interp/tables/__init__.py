"""Stored tables in, answers out: pandas only, no model, no figure.

Mental model: each module answers one question from one or two tables of a study (before the arrow), for every arm and seed and
over seeds, with intervals. Figures, reports and pages only show what these functions return.

    metrics         all of them in one table, made of behaviour, obedience, divergence, marks and drift
    behaviour       generations → accuracy in both views, Harm, Rescue, length; differences between arms
    obedience       generations → does the student still follow a new instruction?
    divergence      divergence → fidelity and invariance
    example_pairs   generations → which answers flipped; unread: which nobody could read
    drift           drift → a measure by layer, the layer that moves most; controls: beside its floor
    token_view      token_drift → which tokens move, arms aligned; flips_by_drift: does that tell flips?
    patching …      patching, attribution, knockout, lens, directions, updates, gradients, probes → a table of explain over seeds
    suite           several studies side by side; claims, ablations, confirmation
    verdict_rows    what two arms' difference costs and gains
    estimates       what they share: the two intervals; pairing (which runs are compared), permuted, stored (kept on disk)
    answer_sums     what behaviour's metrics are ratios of; interval_words: what intervals are called
    methods         how numbers were computed where that has changed
    matching        where two sequences agree; code_of: by what code a stored table was made
    patching_claims which patched places bring more back than their controls do
"""
