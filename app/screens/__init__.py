"""The pages, each a script that Streamlit runs: a page asks ``app.queries`` and draws with ``cr_interp.figures``.

Mental model: one module is one page and answers one question, which is its first line. Which pages there are, in which order and
with which shared choices, stands in ``app/main_pages.py``.

    home              which studies are here, and where to begin
    suite             in how many settings the claim holds
    overview          did it help, and at what price
    examples          which answers flip
    layers, tokens    where states move: by layer, by token
    maps              which layers resemble each other
    mechanism         where an answer is decided
    training          when it emerged
    try_it            a prompt of the reader's own
"""
