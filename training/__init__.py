"""training: makes the checkpoints that cr_interp looks at. It imports cr_interp, never the other way round."""
