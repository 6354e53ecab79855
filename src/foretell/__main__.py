"""The program `foretell`, also as `python -m foretell`: it can be stopped from its first moment."""

import os
import signal
import sys
from types import FrameType

STOPPED = 128 + signal.SIGTERM


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if os.getpid() == 1:
        # The kernel spares the first process of a container what it does not handle itself, and
        # the command line takes a third of a second to load. Commands say later what they do.
        signal.signal(signal.SIGTERM, _stop)
    from foretell.app.cli import main as run

    run()


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED)


if __name__ == "__main__":
    main()
