"""The pages, each a script that Streamlit runs: a page asks ``app.queries`` and draws with ``cr_interp.figures``.

Mental model: one module is one page and answers one question, which is its first line. Which pages there are, in which order and
with which shared choices, stands in ``app/main_pages.py``.
"""
