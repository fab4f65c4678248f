"""Holds a ledger file against what PostgreSQL has of it: number and cost of its records, and what they cost in all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from proxy.billing.ledger_reading import file_id_of, reading, removed
from proxy.billing.records import to_usd
from proxy.billing.verify import Finding
from proxy.store.database import Database

LIMIT_S = 600.0
"""What one question may take: it counts the records of a file."""


class Shipped(NamedTuple):
    """What PostgreSQL has of a file. `through` is None where it knows nothing of it."""

    file_id: str
    through: int | None
    unshipped: int
    findings: list[Finding]


class _Of(NamedTuple):
    """What the file has: records that PostgreSQL should have, too, and those it needn't have yet."""

    after: int
    records: int
    cost: int
    spent: int
    unshipped: int


def check(database: Database, path: Path) -> Shipped:
    """Of one file, while a server writes and ships it or not. Raises LedgerUnusable, StoreError.

    Both sides are read up to the number that the file is shipped through, from which on only more can come; and from
    where neither side's retention has removed anything.
    """
    with database.reading(limit_s=LIMIT_S) as connection:
        file_id = _file_id(path)
        cursor = _row(connection, "SELECT through_seq FROM shipped WHERE file_id = :file_id", file_id=file_id)
        through = cursor[0] if cursor else 0
        [since] = _row(connection, "SELECT coalesce(max(removed_before), 0) FROM removed_partitions")
        mine = _read(path, through, since)
        if cursor is None:
            return Shipped(file_id, None, mine.unshipped, [])
        return Shipped(file_id, through, mine.unshipped, _findings(connection, file_id, through, since, mine))


def _file_id(path: Path) -> str:
    with reading(path) as connection:
        return file_id_of(connection)


def _read(path: Path, through: int, since: int) -> _Of:
    with reading(path) as connection:
        connection.execute("BEGIN")
        after = removed(connection).through
        records, cost = connection.execute(
            "SELECT count(*), coalesce(sum(cost_usd), 0) FROM usage_records WHERE seq <= ? AND started_at >= ?",
            (through, since),
        ).fetchone()
        unshipped, not_yet = connection.execute(
            "SELECT count(*), coalesce(sum(cost_usd), 0) FROM usage_records WHERE seq > ?", (through,)
        ).fetchone()
        [spent] = connection.execute("SELECT coalesce(sum(cost_usd), 0) FROM usage_hourly").fetchone()
        connection.execute("ROLLBACK")
    return _Of(after, records, cost, spent - not_yet, unshipped)


def _findings(connection: Connection, file_id: str, through: int, since: int, mine: _Of) -> list[Finding]:
    found = []
    for record_id, why in connection.execute(
        text("SELECT record_id, why FROM refused_records WHERE file_id = :file_id ORDER BY seq LIMIT 1000"),
        {"file_id": file_id},
    ):
        found.append(Finding("shipped", f"PostgreSQL refused it; it stands in refused_records alone: {why}", record_id))
    records, cost = _row(
        connection,
        "SELECT count(*), coalesce(sum(cost_usd), 0) FROM usage_records"
        " WHERE file_id = :file_id AND seq > :after AND seq <= :through AND started_at >= :since",
        file_id=file_id,
        after=mine.after,
        through=through,
        since=since,
    )
    if (records, cost) != (mine.records, mine.cost):
        found.append(_differs(f"records {mine.after + 1} to {through}", (records, cost), (mine.records, mine.cost)))
    [spent] = _row(
        connection, "SELECT coalesce(sum(cost_usd), 0) FROM file_spendings WHERE file_id = :file_id", file_id=file_id
    )
    if spent != mine.spent:
        says = f"all that was shipped of it cost {to_usd(int(spent))} USD in PostgreSQL and {to_usd(mine.spent)} here"
        found.append(Finding("shipped", says))
    return found


def _differs(which: str, have: tuple[int, int], want: tuple[int, int]) -> Finding:
    theirs, ours = (f"{records:,} that cost {to_usd(int(cost))} USD" for records, cost in (have, want))
    return Finding("shipped", f"of its {which}, PostgreSQL has {theirs}; here are {ours}")


def _row(connection: Connection, select: str, **values: Any) -> Any:
    return connection.execute(text(select), values).first()
