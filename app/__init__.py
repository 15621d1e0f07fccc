"""The workbench: a Streamlit app that looks at studies. ``streamlit run app/main.py`` starts it.

Mental model: ``main.py`` draws the sidebar, which makes one :class:`~app.queries.state.Selection`; a page (a script in
``screens/``) turns this selection into figures; what it lets its reader choose besides is kept in the URL by ``address.py``.
Numbers come from ``cr_interp.tables.behaviour``, figures from ``cr_interp.figures.behaviour`` and its neighbours, files from
``cr_interp.study.study``; nothing here computes. Nothing imports torch but ``live.py``, when somebody asks for
a model.
"""
