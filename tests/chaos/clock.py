"""A process's wall clock, which a test sets while it runs: by clock.c, preloaded into it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path


class Clock:
    """So many seconds beside the machine's clock, for processes that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._library, self._file = folder / "clock.so", folder / "clock"
        source = Path(__file__).with_name("clock.c")
        command = ["gcc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", self._library, source, "-ldl"]
        subprocess.run(command, check=True)
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_FILE": str(self._file)}

    def set(self, ahead_s: int) -> None:
        self.ahead_s = ahead_s
        # In place: it is mapped by those who run.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", ahead_s))
