"""A study as text: its table for the terminal, as Markdown and as JSON. ``study`` has one study, ``suite`` several."""
