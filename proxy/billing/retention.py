"""What retention has removed from the ledger. It is the writer that removes: billing/ledger_writer.py."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.billing.records import to_rfc3339
from proxy.billing.sources import Source, is_shipped, opened


def records_since(sources: Iterable[Source]) -> int:
    """From when on, in Unix microseconds, every call's record is there; 0: from the first.

    Where records are shipped to PostgreSQL, they are removed from the files soon: then PostgreSQL alone tells. Raises
    LedgerUnusable, StoreError.
    """
    before = 0
    sources = list(sources)
    for source in [source for source in sources if is_shipped(source)] or sources:
        with opened(source) as reader:
            before = max(before, reader.removed_before())
    return before


def told(since: int) -> str:
    """What to say of calls before `since`, of which there may be no record any more."""
    return f"Records of calls from before {to_rfc3339(since)[:16]}Z were removed (storage.retention_days)"
