"""Every number that a page may cite, looked up in the bundled studies: what templates call ``r``.

Mental model: a page is a template, and what stands between its braces is a call of a function of these modules. So a number in
the text is the table's, by construction; nothing is typed twice.

    values      how a number is written: an estimate with its interval, in per cent, in points, or plain
    of_study    one study's answers         of_states   its states beside their controls
    of_suite    the twelve settings
"""

from of_states import *  # noqa: F403
from of_study import *  # noqa: F403
from of_suite import *  # noqa: F403
from values import *  # noqa: F403
