"""What commands say of records that aren't in PostgreSQL yet: the ledger that they read ends before those."""

from __future__ import annotations

from typing import Any

import typer

from proxy.billing.ledger_errors import LedgerError
from proxy.billing.records import to_rfc3339
from proxy.billing.sources import Sources, Unshipped


def tell(sources: Sources) -> dict[str, Any]:
    """Says on standard error what is known to be missing; the fields of it, as JSON has them.

    Files that can't be read are said, too: PostgreSQL is the ledger, and its report stands without them. Raises
    StoreError.
    """
    try:
        unshipped = sources.unshipped()
    except (LedgerError, OSError) as error:
        typer.echo(f"Whether this node has shipped all that it wrote isn't known: {error}", err=True)
        return {"unshipped_records": None, "shipped_until": None}
    if unshipped:
        typer.echo(_told(unshipped), err=True)
    until = to_rfc3339(unshipped.since) if unshipped else None
    return {"unshipped_records": unshipped.records if unshipped else 0, "shipped_until": until}


def _told(unshipped: Unshipped) -> str:
    return (
        f"{unshipped.records:,} records of this node aren't in PostgreSQL yet, and missing here: "
        f"its calls from before {to_rfc3339(unshipped.since)} all are there."
    )
