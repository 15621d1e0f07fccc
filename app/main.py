"""Start of the workbench: ``streamlit run app/main.py``, from any folder.

Draws the shared selectors, then runs the page. Looks for studies in the folder that CR_INTERP_STUDIES names,
in ./studies, and among the bundled examples.
"""

import sys
from pathlib import Path
from typing import Any

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

from app import address, context_line, sidebar  # noqa: E402
from app.main_pages import PAGES  # noqa: E402
from app.queries.state import Selection  # noqa: E402
from app.words import plain  # noqa: E402
from cr_interp.errors import UserError  # noqa: E402
from cr_interp.study.searching import find_studies  # noqa: E402

#: Three drift curves, as on the Layers page. Given as text: nothing is loaded from the network.
_CURVES = """<g fill="none" stroke-width="2.6" stroke-linecap="round">
<path d="M3 6 C10 34 22 34 33 16" stroke="#858585"/><path d="M3 6 C11 22 22 22 33 11" stroke="#D55E00"/>
<path d="M3 6 C12 10 22 10 33 7" stroke="#0072B2"/></g>"""
FIRST = "overview"
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


def not_here(problem: sidebar.NotHere, page: Any) -> None:
    """Say which study a link asked for, and which there are; nothing is opened in its stead."""
    st.error(
        f"The link asks for the study **{plain(problem.asked)}**, which is not here.", icon=":material/link_off:"
    )
    st.markdown(
        "It was made elsewhere, renamed, or its folder is not where studies are looked for: the folder that "
        "`CR_INTERP_STUDIES` names, `./studies`, and the bundled examples. There are:"
    )
    for name in problem.there:
        st.page_link(page, label=plain(name), icon=":material/folder_open:", query_params={"study": name})


st.set_page_config(page_title="cr_interp", page_icon=ICON, layout="wide")
st.logo(LOGO, size="large")
# The folder is not called pages: beside the main script Streamlit takes that name for its older kind of
# multipage app and, until st.navigation has run once, opens a link to a page without running this file.
pages = {
    name: st.Page(
        f"screens/{name}.py",
        title=each.title,
        icon=f":material/{each.icon}:",
        default=name == FIRST,
        # Of the first page it is never seen, but its name must be free for the page that leads there.
        url_path="first" if name == FIRST else name,
    )
    for name, each in PAGES.items()
}


def by_its_name() -> None:
    """Do nothing: the address of the first page is the server's own, and whoever types its name is led there."""


named = st.Page(by_its_name, title="By its name", url_path=FIRST, visibility="hidden")
page = st.navigation([*pages.values(), named], position="top")
if page == named:
    st.switch_page(pages[FIRST], query_params={key: st.query_params.get_all(key) for key in st.query_params})
title, _, parts = next(each for each in PAGES.values() if each.title == page.title)
address.begin(page.title)
selection: Selection | None = None
problem: UserError | sidebar.NotHere | None = None
with st.sidebar:
    try:
        selection = sidebar.choose(parts)
    except (UserError, sidebar.NotHere) as error:
        problem = error
st.set_page_config(page_title=context_line.browser_title(title, selection))
context_line.head(title, pages, selection, parts)

#: A page that is about several studies needs none of them chosen.
alone = "study" not in parts
if isinstance(problem, sidebar.NotHere):
    not_here(problem, page)
elif problem is not None and not alone:
    st.error(plain(problem), icon=":material/error:")
    st.info("Choose another study on the left.", icon=":material/arrow_back:")
elif selection is None and problem is None and not find_studies():
    st.info(NO_STUDIES, icon=":material/folder_off:")
elif not alone and selection is not None and "arms" in parts and not selection.arms:
    st.info("Choose at least one arm on the left.", icon=":material/arrow_back:")
elif not alone and selection is not None and "seeds" in parts and selection.all_seeds and not selection.seeds:
    st.info("Choose at least one seed on the left.", icon=":material/arrow_back:")
else:
    st.session_state["selection"] = selection
    page.run()
if not isinstance(problem, sidebar.NotHere):
    address.publish()
