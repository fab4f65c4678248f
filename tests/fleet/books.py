"""What a fleet has written down: the ledger files of its nodes, and what PostgreSQL has of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.billing.records import UsageRecord
from tests.fleet.fleet import Fleet


@dataclass
class Books:
    records: Sequence[UsageRecord]
    """Of all ledger files."""
    wrong: list[str] = field(default_factory=list)
    """Where PostgreSQL says another thing than the files."""


def books(running: Fleet) -> Books:
    """Waits until all is shipped that can be."""
    return Books(running.records())
