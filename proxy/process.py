"""What a process of Weighbridge is: all of it, one of its workers, or its control process."""

from __future__ import annotations

from typing import NamedTuple


class Process(NamedTuple):
    """Which part of Weighbridge a process is, and which ledger file is its own."""

    slot: str = "0"
    gateway: bool = True
    """It serves calls."""
    control: bool = True
    """It serves operators, and does what one process of a node does."""
    locked: bool = False
    """There are others on this data_dir, and the supervisor has the lock of the ledger for all of them."""

    def owned(self, workers: int) -> frozenset[str]:
        """The slots that a process of this data_dir writes, where there are so many workers."""
        return frozenset((*map(str, range(workers)), "control")) if self.locked else frozenset((self.slot,))

    def __str__(self) -> str:
        return f"worker {self.slot}" if self.gateway else "control process"


ALONE = Process()
