"""Many runs: a study's arms × seeds, a suite's settings, as jobs side by side."""
