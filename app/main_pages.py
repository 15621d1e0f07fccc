"""The pages: their titles and icons, and which of the shared choices each of them uses."""

from typing import NamedTuple


class Page(NamedTuple):
    title: str
    icon: str
    parts: tuple[str, ...]
    """Of :data:`app.sidebar.PARTS`: what stands on the left and in the page's first line. Without ``study`` a page is about
    no single study."""


#: The page's file in ``screens/`` → the page, in the menu's order; the Overview is opened where the address names none.
PAGES = {
    "home": Page("Home", "home", ()),
    "overview": Page("Overview", "monitoring", ("study", "pair", "arms", "seeds", "control")),
    "layers": Page("Layers", "layers", ("study", "arms", "seeds", "control", "measure", "pair", "sinks")),
    "mechanism": Page("Mechanism", "account_tree", ("study", "arms", "seeds")),
    "maps": Page("Maps", "grid_on", ("study", "arms", "seeds", "pair")),
    "tokens": Page("Tokens", "format_ink_highlighter", ("study", "pair", "arms", "seeds")),
    "examples": Page("Examples", "compare", ("study", "pair", "arms", "seeds", "control")),
    "training": Page("Training", "trending_up", ("study", "arms", "seeds", "control", "measure")),
    "suite": Page("Suite", "apps", ("image",)),
    "try_it": Page("Try it", "play_circle", ("study", "pair", "control")),
}
