"""The clock of a server under test: wall time goes on, from where the test sets it. Needs libfaketime."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from tests.redis_servers import FAKETIME


class Clock:
    """The wall clock of processes that are started with `environment`. What nobody sets (monotonic) isn't touched."""

    def __init__(self, folder: Path) -> None:
        assert FAKETIME is not None, "libfaketime isn't installed"
        self._file = folder / "clock"
        self.ahead_s = 0.0
        self.step(0)
        self.environment = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, seconds: float) -> None:
        """Sets it forth, or back, while they run."""
        self.ahead_s += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{self.ahead_s:+f}\n")
        new.replace(self._file)

    def set(self, moment: datetime) -> None:
        """Sets it to a time, from which it goes on."""
        self.step(moment.timestamp() - self.now_us() / 1_000_000)

    def now_us(self) -> int:
        """What these processes take the time for, in Unix microseconds."""
        return time.time_ns() // 1000 + int(self.ahead_s * 1_000_000)

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now_us() / 1_000_000, UTC)
