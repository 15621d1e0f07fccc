"""The lines of Python behind every figure, as the Save button gives them."""
