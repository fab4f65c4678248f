"""Tables of the ledger in PostgreSQL, where the records of every ledger file come together. A migration makes them.

Columns and values are those of a ledger file (billing/ledger_schema.py), so that the same SQL reads both: times are
Unix microseconds, money is nano-dollars, truth values are 0 and 1, maps and lists are JSON text. Texts are ordered by
their bytes, as SQLite does it, and as no upgrade of the system's locales changes it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, MetaData, PrimaryKeyConstraint, Table, Text, text

from proxy.billing.ledger_schema import HOURLY_KEYS, HOURLY_ORDER, HOURLY_SUMS, record_columns
from proxy.billing.records import COLUMNS

metadata = MetaData()


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _record_column(name: str) -> Column[str] | Column[int]:
    declared = record_columns()[name]
    make = _number if declared.startswith("INTEGER") else _text
    return make(name, nullable="NOT NULL" not in declared)


_TEXTS = frozenset(name for name, declared in record_columns().items() if declared.startswith("TEXT"))

usage_records = Table(
    "usage_records",
    metadata,
    # Numbers come first: one that follows a text is padded to eight bytes.
    _number("seq"),
    *(_record_column(name) for name in sorted(COLUMNS, key=_TEXTS.__contains__)),
    _text("file_id"),
    PrimaryKeyConstraint("started_at", "record_id", name="pk_usage_records"),
    Index("ix_usage_records_record_id", "record_id"),
    Index("ix_usage_records_request_id", "request_id"),
    Index("ix_usage_records_file_id", "file_id", "seq"),
    Index("ix_usage_records_no_call", "started_at", postgresql_where=text("kind NOT IN ('call', 'turn')")),
    postgresql_partition_by="RANGE (started_at)",
)
"""The records: insert-only, a partition a month of UTC (billing/partitions.py). `file_id` and `seq` say where each was
written. A record is told by its id; the key has `started_at` before it because a partition can only watch its own."""

removed_partitions = Table(
    "removed_partitions",
    metadata,
    _text("name"),
    _number("removed_before"),
    PrimaryKeyConstraint("name", name="pk_removed_partitions"),
)
"""What was removed: months that retention dropped, and records of a file (`file ` and its id) that were removed from it
before they were shipped; all of calls that started before `removed_before`, in Unix microseconds."""

usage_hourly = Table(
    "usage_hourly",
    metadata,
    _number("hour"),
    *(_number(key) if key == "estimated" else _text(key) for key in HOURLY_KEYS),
    *(_number(name) for name in HOURLY_SUMS),
    PrimaryKeyConstraint(*HOURLY_ORDER, name="pk_usage_hourly"),
)
"""Sums of all files by hour, kept in the transaction that inserts the records. They outlive those."""

file_spendings = Table(
    "file_spendings",
    metadata,
    _text("file_id"),
    _text("period"),
    _text("project"),
    _text("key_id"),
    _text("model"),
    _number("cost_usd"),
    PrimaryKeyConstraint("project", "period", "file_id", "key_id", "model", name="pk_file_spendings"),
)
"""What the shipped records of each file cost, by day (`period`): budgets of files that nobody writes begin with it."""

shipped = Table(
    "shipped",
    metadata,
    _text("file_id"),
    _number("through_seq"),
    _text("through_record_id"),
    _number("missing"),
    _text("node"),
    _text("slot"),
    _number("seen_at"),
    PrimaryKeyConstraint("file_id", name="pk_shipped"),
)
"""How far each ledger file was shipped, moved in the transaction that inserts its records. `through_record_id` is the
record with that number ("" where it isn't known): a file that has another there isn't the one that was shipped.
`missing` counts records that were removed from the file before they were shipped. `seen_at`: when a live worker last
had the file, by the database's clock (0: never); `node` and `slot`: where it was last."""

refused_records = Table(
    "refused_records",
    metadata,
    _text("file_id"),
    _number("seq"),
    _text("record_id"),
    _text("why"),
    _text("record"),
    PrimaryKeyConstraint("file_id", "seq", name="pk_refused_records"),
)
"""Records that PostgreSQL refuses: `record` is the row as a JSON object of its columns, in ASCII. In no sum."""

jobs = Table(
    "jobs",
    metadata,
    _text("name"),
    _number("done_at"),
    PrimaryKeyConstraint("name", name="pk_jobs"),
)
"""What one process does for all, and when it was last done, by the database's clock: see billing/jobs.py."""

adjustment_claims = Table(
    "adjustment_claims",
    metadata,
    _text("record_id"),
    _number("claimed_at"),
    _text("record"),
    PrimaryKeyConstraint("record_id", name="pk_adjustment_claims"),
)
"""Ids of adjustments, which all nodes share: claimed before the record is written into a ledger file. `record` is the
whole record, as JSON: written twice, by whomever, it is the same record, which counts once. `claimed_at` is Unix
microseconds of the database's clock."""
