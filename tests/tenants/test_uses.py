"""Last uses are written once for many, and the newest stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from proxy.store.database import Database, StoreError, open_database
from proxy.store.tables import key_uses, revision
from proxy.tenants.uses import write_uses


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(tmp_path)


def kept(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        return {row.key_id: row.last_used_at for row in connection.execute(select(key_uses))}


def test_the_newest_use_stands_in_whatever_order_uses_are_written(database: Database) -> None:
    write_uses(database, {"a": 5, "b": 5})
    write_uses(database, {"a": 4, "b": 6, "c": 1})
    write_uses(database, {"b": 6})
    assert kept(database) == {"a": 5, "b": 6, "c": 1}


def test_a_use_is_no_change_of_what_a_key_may_do(database: Database) -> None:
    """Else every worker would read all keys anew for it."""
    write_uses(database, {"a": 5})
    with database.reading() as connection:
        assert connection.execute(select(revision.c.number)).scalar_one() == 0


def test_a_database_that_is_away_is_an_error_of_the_store(database: Database) -> None:
    database.path.unlink()
    with pytest.raises(StoreError, match="unable to open"):
        write_uses(database, {"a": 5})
