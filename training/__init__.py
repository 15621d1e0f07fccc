"""training: makes the checkpoints that cr_interp looks at. It imports cr_interp, never the other way round."""

import cr_interp  # noqa: F401  # former addresses of modules, as training.config, are answered from there
