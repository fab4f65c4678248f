"""When keys were last used: noted in memory at each call, written to the database now and then."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.dialects.sqlite import insert

from proxy.store.database import Database
from proxy.store.tables import key_uses


def write_uses(database: Database, uses: Mapping[str, int]) -> None:
    """Writes when keys, by their ids, were last used (Unix microseconds). What is there stays where it is newer.

    Written twice, it is written once. Raises StoreError.
    """
    new = insert(key_uses)
    statement = new.on_conflict_do_update(
        index_elements=[key_uses.c.key_id],
        set_={"last_used_at": new.excluded.last_used_at},
        where=new.excluded.last_used_at > key_uses.c.last_used_at,
    )
    with database.noting() as connection:
        connection.execute(statement, [{"key_id": key_id, "last_used_at": at} for key_id, at in uses.items()])
