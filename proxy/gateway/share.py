"""How connections are spread over workers that accept on one socket: who has more than another lets that one go first.

The kernel wakes all of them for each connection, and who happens to be quick would take a burst whole. So each tells
the others how many it has open, in memory that they share, and waits a moment where another has clearly fewer. Nothing
hangs on what a neighbour says: who has waited takes the next one, whatever the numbers are.
"""

from __future__ import annotations

import mmap

GONE = 0xFFFFFFFF
"""In place of a number: of a worker that accepts nothing."""
SLACK = 8
"""One part in so many is no difference."""


class Shares:
    """One number for each worker. To be made before they part, by fork."""

    def __init__(self, workers: int) -> None:
        self._open = memoryview(mmap.mmap(-1, 4 * workers)).cast("I")
        for worker in range(workers):
            self.forget(worker)

    def of(self, worker: int) -> Share:
        return Share(self._open, worker)

    def forget(self, worker: int) -> None:
        """It has died: nobody waits for it."""
        self._open[worker] = GONE


class Share:
    """What one worker tells of itself, and sees of the others."""

    def __init__(self, opened: memoryview[int], worker: int) -> None:
        self._open = opened
        self._worker = worker

    def tell(self, count: int) -> None:
        """So many connections it has open, and it takes more."""
        self._open[self._worker] = count

    def leave(self) -> None:
        """It takes no more."""
        self._open[self._worker] = GONE

    def holds_back(self) -> bool:
        """Whether another one should have the next connection."""
        fewest = min(self._open)
        mine = self._open[self._worker]
        return mine > fewest + fewest // SLACK
