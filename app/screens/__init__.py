"""The pages, each a script that Streamlit runs. What a page shows is asked of ``app.queries``; what it draws, of ``cr_interp.figures``."""
