"""``python -m cr_interp`` is ``cr-interp``."""

from cr_interp.cli import main
from cr_interp.system.leaving import leave


def run() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        main()
    except SystemExit as end:
        leave(end)


if __name__ == "__main__":
    run()
