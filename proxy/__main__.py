"""`python -m proxy`: the same as the command `weighbridge`."""

from __future__ import annotations

from proxy.cli.main import app


def main() -> None:
    """Runs the command line and ends the process."""
    app(prog_name="weighbridge")


if __name__ == "__main__":
    main()
