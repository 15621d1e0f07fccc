"""Pre-training of organisms: lessons, packing, weights, the card."""
