"""Games on grids: FrozenLake and Sokoban of one turn, TextArena's of several.

Mental model: the context is a legend that says which letter moves where; the prompt is a board; an answer is right if its path
solves the board. ``grids.py`` has what both games (``frozenlake.py``, ``sokoban.py``) share. TextArena's (``textarena.py``) are
played turn by turn through ``arena.py``; ``transcript.py`` is such an episode as one text.
"""
