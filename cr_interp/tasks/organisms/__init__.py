"""Tasks that organisms are pre-trained on: string rules (``rules.py``), codebooks (``codebook.py``), hints (``hints.py``).

Mental model: only the system prompt tells which rule or table applies, so the answer without it has to be learned. ``filler.py``
writes text that tells nothing, ``pairs.py`` the ways to write a table down.
"""
