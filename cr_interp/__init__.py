"""cr_interp: what a privileged context still does to a model that is supposed to have internalised it.

Importing this package imports neither torch nor transformers; the modules that need them do.
"""

from cr_interp import former

former.answer()
