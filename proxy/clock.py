"""The clock of the wall. Whoever needs the time is handed this."""

from __future__ import annotations

import time


def unix_us() -> int:
    """Unix microseconds."""
    return time.time_ns() // 1000
