"""What one process is to do for all that share a PostgreSQL: claimed by locking its row, passed over by all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from proxy.store.database import Database

NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The database's clock: nodes' own may be apart."""
_KNOW = text("INSERT INTO jobs (name, done_at) VALUES (:name, 0) ON CONFLICT DO NOTHING")
_CLAIM = text(
    f"SELECT 1 FROM jobs WHERE name = :name AND {NOW_US} - done_at >= :every_us FOR UPDATE SKIP LOCKED"  # noqa: S608
)
_DONE = text(f"UPDATE jobs SET done_at = {NOW_US} WHERE name = :name")  # noqa: S608


@contextmanager
def claimed(database: Database, name: str, every_us: int) -> Iterator[bool]:
    """Whether the job is this process's now: it is due, and no other process is at it.

    It counts as done when the block ends, and is everybody's again where that raises, or the process dies. The block
    is to take seconds only: a connection waits for it. Raises StoreError.
    """
    with database.noting() as connection:
        connection.execute(_KNOW, {"name": name})
    with database.noting() as connection:
        mine = connection.execute(_CLAIM, {"name": name, "every_us": every_us}).scalar() is not None
        yield mine
        if mine:
            connection.execute(_DONE, {"name": name})
