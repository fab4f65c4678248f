"""When keys were last used: noted in memory at each call, written to the database now and then."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.store.database import Database
from proxy.store.tables import key_uses
from proxy.store.upsert import insert


def write_uses(database: Database, uses: Mapping[str, int]) -> None:
    """Writes when keys, by their ids, were last used (Unix microseconds). What is there stays where it is newer.

    Written twice, it is written once. Raises StoreError.
    """
    # In order: two that write the same keys in different orders would each wait for the other.
    rows = [{"key_id": key_id, "last_used_at": at} for key_id, at in sorted(uses.items())]
    with database.noting() as connection:
        new = insert(connection, key_uses)
        statement = new.on_conflict_do_update(
            index_elements=[key_uses.c.key_id],
            set_={"last_used_at": new.excluded.last_used_at},
            where=new.excluded.last_used_at > key_uses.c.last_used_at,
        )
        connection.execute(statement, rows)
