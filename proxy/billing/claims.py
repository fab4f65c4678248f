"""Ids of adjustments, each given once over all nodes: claimed in PostgreSQL before the record is written anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import BigInteger, Column, MetaData, PrimaryKeyConstraint, Table, Text, select, text
from sqlalchemy.dialects.postgresql import insert

from proxy.billing.records import UsageRecord
from proxy.store.database import Database

WRITTEN_WITHIN_S = 60
"""What a process gets to write a record that it claimed. After that, whoever is asked for the same writes it."""

metadata = MetaData()
adjustment_claims = Table(
    "adjustment_claims",
    metadata,
    Column("record_id", Text(collation="C"), nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("record", Text(collation="C"), nullable=False),
    PrimaryKeyConstraint("record_id", name="pk_adjustment_claims"),
)
"""`record` is the whole record, as JSON: written twice, by whomever, it is the same record, which counts once.
`claimed_at` is Unix microseconds of the database's clock, which is one for all nodes."""

_now = text("CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)")
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
        {"record_id": record.record_id, "claimed_at": _now, "record": _encode(record).decode()}
        for record in sorted(records, key=_id)  # in one order: or two processes would wait for each other
    ]
    table = adjustment_claims
    with postgres.noting() as connection:
        making = insert(table).values(rows).on_conflict_do_nothing().returning(table.c.record_id)
        ours = set(connection.execute(making).scalars())
        late = text(f"claimed_at < {_now} - {WRITTEN_WITHIN_S * 1_000_000}")
        others = select(table.c.record_id, table.c.record, late).where(
            table.c.record_id.in_([record.record_id for record in records if record.record_id not in ours])
        )
        taken = {row[0]: Claim(_decode(row[1]), free=bool(row[2])) for row in connection.execute(others)}
    return [taken.get(record.record_id) or Claim(record, free=True) for record in records]


def _id(record: UsageRecord) -> str:
    return record.record_id
