"""The workbench: a Streamlit app that looks at studies. ``streamlit run app/main.py`` starts it.

Mental model: ``main.py`` draws the sidebar, which makes one :class:`~app.queries.state.Selection`; a page (a script in
``screens/``) turns this selection into figures; what it lets its reader choose besides is kept in the URL by ``address.py``.
Numbers come from ``cr_interp.tables.behaviour``, figures from ``cr_interp.figures.behaviour`` and its neighbours, files from
``cr_interp.study.study``; nothing here computes. Torch is loaded only by *Try it*, when somebody asks for a model.

    main, main_pages, policy, preload   the start: which pages there are, what the server lets nobody do, what loads early
    sidebar, address, context_line      what all pages share: the selectors, the URL, the line below a title
    screens                             the pages
    queries                             what they ask; :mod:`app.queries.live` is the only module that imports torch
    recipes                             the lines of Python behind every figure
    parts, words, shorter, sending      pieces of pages: figures with captions, the glossary, short names, the report's button
    mechanism_tabs, try_asking, typed   parts of single pages: Mechanism's tabs, Try it's questions, texts that a reader types
"""
