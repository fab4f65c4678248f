"""`python -m proxy`: the same as the command `weighbridge`."""

from __future__ import annotations

import sys

from proxy.cli.main import app
from proxy.telemetry import logs


def main() -> None:
    """Runs the command line and ends the process. What nobody expected is told as what was: without secrets."""
    logs.configure(style="people", quiet=True)
    logs.take_over()
    try:
        app(prog_name="weighbridge")
    except Exception as error:
        logs.crashed(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
