"""Runs the `weighbridge` command, and writes the names of all modules that it came to import into $MODULES_LEFT."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

from proxy.__main__ import main


def write() -> None:
    Path(os.environ["MODULES_LEFT"]).write_text("\n".join(sorted(sys.modules)))


if __name__ == "__main__":
    atexit.register(write)
    main()
