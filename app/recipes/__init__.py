"""The lines of Python behind every figure, as the Save button gives them.

Mental model: a recipe is the call that the page makes, written out, so that what is saved draws the same figure elsewhere. A
test runs every recipe and compares the figures.

    study    figures of a study and of a suite
    tryout   figures of Try it, whose lines load the checkpoints again
"""
