"""Games on grids: FrozenLake and Sokoban of one turn, TextArena's of several."""
