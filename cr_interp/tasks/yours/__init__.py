"""Tasks of your own: prompts in a file, a description in YAML, a Python file; and the published ones, described the same way."""
