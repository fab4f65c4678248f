"""Ids of adjustments, each given once over all nodes: claimed in PostgreSQL before the record is written anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from proxy.billing.jobs import NOW_US
from proxy.billing.ledger_tables import adjustment_claims as table
from proxy.billing.records import UsageRecord
from proxy.store.database import Database

WRITTEN_WITHIN_S = 60
"""What a process gets to write a record that it claimed. After that, whoever is asked for the same writes it."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(UsageRecord).decode


class Claim(NamedTuple):
    """The record that has an id, and whether it is to be written now. If not, another process is at it."""

    record: UsageRecord
    free: bool


def claim(postgres: Database | None, records: Sequence[UsageRecord]) -> list[Claim]:
    """Claims the ids of records that aren't in the ledger; of each, whose it is. Raises StoreError.

    Without PostgreSQL one process writes all adjustments, and its ledger file has each id once.
    """
    if postgres is None or not records:
        return [Claim(record, free=True) for record in records]
    rows = [
        {"record_id": record.record_id, "claimed_at": text(NOW_US), "record": _encode(record).decode()}
        for record in sorted(records, key=_id)  # in one order: or two processes would wait for each other
    ]
    with postgres.noting() as connection:
        making = insert(table).values(rows).on_conflict_do_nothing().returning(table.c.record_id)
        ours = set(connection.execute(making).scalars())
        late = text(f"claimed_at < {NOW_US} - {WRITTEN_WITHIN_S * 1_000_000}")
        others = select(table.c.record_id, table.c.record, late).where(
            table.c.record_id.in_([record.record_id for record in records if record.record_id not in ours])
        )
        taken = {row[0]: Claim(_decode(row[1]), free=bool(row[2])) for row in connection.execute(others)}
    return [taken.get(record.record_id) or Claim(record, free=True) for record in records]


def _id(record: UsageRecord) -> str:
    return record.record_id
