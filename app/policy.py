"""What the server lets nobody do, whatever its user's settings say, and what a page of it may load.

Mental model. The app has no password: it trusts whoever sits at this machine. So pages of other sites must get nothing from it.
The server's own checks of origins do that; a user's file or environment may have switched them off for another app, and
then nothing is shown here. Text of a study is escaped wherever it is shown; should that ever fail, the page's policy lets it load
nothing from elsewhere. A frame of another site shows nothing, since clicks in it would be that site's.
"""

from typing import Any

import streamlit as st

#: Options of Streamlit's that keep others out, and the only value of each with which studies are shown.
CLOSED: dict[str, Any] = {
    "server.enableCORS": True,
    "server.corsAllowedOrigins": [],
    "server.enableXsrfProtection": True,
    "server.enableStaticServing": False,
    "server.enableAgentApi": False,
}
#: The page's own server, and what it has made itself; scripts and styles are left to Streamlit.
SOURCES = (
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; frame-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; connect-src 'self' data: blob: ws://HOST wss://HOST"
)
#: In front of all else on the page. A page that is framed by another origin cannot read whose it is.
SCRIPT = (
    "const told = document.createElement('meta'); told.httpEquiv = 'Content-Security-Policy'; "
    f'told.content = "{SOURCES}".replaceAll("HOST", location.host); document.head.append(told); '
    "try { void top.location.href } catch { document.body.textContent = "
    "'This page belongs to a server on your own machine, and is not shown inside the page of another site.' }"
)


def open_doors() -> list[str]:
    """List the options that some setting has opened, as they would be typed to close them."""
    return [
        f"{option}={str(value).lower()}" for option, value in CLOSED.items() if st.get_option(option) != value
    ]


def stop_if_open() -> None:
    """Show nothing to anybody while pages of other sites could get at it."""
    if found := open_doors():
        st.error(
            f"**Nothing is shown.** Settings of this machine let pages of other sites read this app: {', '.join(found)} is what "
            "they have to be. Look into `~/.streamlit/config.toml` and for variables `STREAMLIT_SERVER_…`, and start the app "
            "again.",
            icon=":material/lock_open:",
        )
        st.stop()
