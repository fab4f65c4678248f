"""The store's clock, as far as this process knows it: its own clock, and how far the store's is ahead."""

from __future__ import annotations

from collections.abc import Callable

JITTER_MS = 2_000
"""By less than that, time only seems to run back: an answer took longer than the one before."""


class StoreClock:
    """Milliseconds of the store's clock. Seems to stand, and never to run back, unless the store's clock was set."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """`now_ms` is this machine's clock."""
        self._now_ms = now_ms
        self._ahead_ms = 0
        self._last_ms = 0

    def heard(self, store_ms: int) -> int:
        """Takes what the store says that the time is. Returns what it is from now on."""
        self._ahead_ms = store_ms - self._now_ms()
        return self()

    def __call__(self) -> int:
        now_ms = self._now_ms() + self._ahead_ms
        if 0 < self._last_ms - now_ms < JITTER_MS:
            return self._last_ms
        self._last_ms = now_ms
        return now_ms
