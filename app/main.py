"""Start of the workbench: ``streamlit run app/main.py``, from any folder.

Draws the shared selectors, then runs the page. Looks for studies in the folder that CR_INTERP_STUDIES names,
in ./studies, and among the bundled examples.
"""

import sys
from pathlib import Path

# Streamlit puts app/ on the path, but `app` and `cr_interp` are found from the folder above it: this makes the
# app work from anywhere, with or without the package installed, and always with the checkout it belongs to.
ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

import streamlit as st  # noqa: E402

from app.policy import stop_if_open  # noqa: E402
from app.preload import preload  # noqa: E402

preload()
stop_if_open()

from app import address, sidebar  # noqa: E402
from app.words import plain  # noqa: E402
from cr_interp.errors import UserError  # noqa: E402

#: Three drift curves, as on the Layers page. Given as text: nothing is loaded from the network.
_CURVES = """<g fill="none" stroke-width="2.6" stroke-linecap="round">
<path d="M3 6 C10 34 22 34 33 16" stroke="#858585"/><path d="M3 6 C11 22 22 22 33 11" stroke="#D55E00"/>
<path d="M3 6 C12 10 22 10 33 7" stroke="#0072B2"/></g>"""
ICON = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -2 36 36">{_CURVES}</svg>'
LOGO = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 168 32">{_CURVES}
<text x="43" y="22" font-family="Inter, Helvetica, Arial, sans-serif" font-size="20" font-weight="600"
fill="#858585">cr_interp</text></svg>"""

NO_STUDIES = """
**No study was found.** A study is a folder with a `manifest.json`. They are looked for in the folder that
`CR_INTERP_STUDIES` names, in `./studies`, and among the bundled examples.

Make one in a few minutes, then reload this page:

```bash
cr-interp reproduce organism
```

or compare checkpoints of your own with `cr-interp compare base=PATH opd=PATH nca=PATH --task NAME`.
"""

st.set_page_config(page_title="cr_interp", page_icon=ICON, layout="wide")
st.logo(LOGO, size="large")
# The folder is not called pages: beside the main script Streamlit takes that name for its older kind of
# multipage app and, until st.navigation has run once, opens a link to a page without running this file.
page = st.navigation(
    [
        st.Page("screens/overview.py", title="Overview", icon=":material/monitoring:", default=True),
        st.Page("screens/layers.py", title="Layers", icon=":material/layers:"),
        st.Page("screens/maps.py", title="Maps", icon=":material/grid_on:"),
        st.Page("screens/tokens.py", title="Tokens", icon=":material/format_ink_highlighter:"),
        st.Page("screens/examples.py", title="Examples", icon=":material/compare:"),
        st.Page("screens/training.py", title="Training", icon=":material/trending_up:"),
        st.Page("screens/suite.py", title="Suite", icon=":material/apps:"),
        st.Page("screens/try_it.py", title="Try it", icon=":material/play_circle:"),
    ],
    position="top",
)
address.begin()
with st.sidebar:
    try:
        selection, problem = sidebar.choose(), None
    except UserError as error:
        selection, problem = None, error

if problem is not None:
    st.error(plain(problem), icon=":material/error:")
    st.info("Choose another study on the left.", icon=":material/arrow_back:")
elif selection is None:
    st.info(NO_STUDIES, icon=":material/folder_off:")
elif not selection.arms:
    st.info("Choose at least one arm on the left.", icon=":material/arrow_back:")
elif selection.all_seeds and not selection.seeds:
    st.info("Choose at least one seed on the left.", icon=":material/arrow_back:")
else:
    st.session_state["selection"] = selection
    page.run()
address.publish()
