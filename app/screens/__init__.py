"""The pages, each a script that Streamlit runs: a page asks ``app.queries`` and draws with ``cr_interp.figures``."""
