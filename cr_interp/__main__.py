"""``python -m cr_interp`` is ``cr-interp``."""

from cr_interp.cli import main

main()
