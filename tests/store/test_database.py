"""Which database a configuration leads to, and what is said where it leads to none. tests/contracts holds what each
promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from proxy.config.schema import Storage
from proxy.store.database import Database, StoreError, open_database, upgrade
from tests.postgres_servers import PASSWORD, PostgresDatabase


def test_without_an_address_it_is_the_file_in_the_data_folder(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    assert (str(database), database.postgresql) == (str(tmp_path / "weighbridge.db"), False)


def test_with_an_address_it_is_postgresql_and_nothing_is_made_in_the_data_folder(
    postgres: PostgresDatabase, tmp_path: Path
) -> None:
    storage = postgres.storage(data_dir=tmp_path / "data")
    upgrade(storage)
    database = open_database(storage)
    assert (str(database), database.postgresql) == (postgres.url, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reference", [{"database_password_env": "UNSET"}, {"database_password_file": Path("gone")}])
def test_a_password_that_is_not_at_hand_is_told_by_who_needs_it(reference: dict[str, object]) -> None:
    """Commands that ask no database need none."""
    storage = Storage.model_validate({"database_url": "postgresql://p/b", **reference})
    with pytest.raises(StoreError, match=r"storage\.database_password_\w+: (UNSET|gone) holds no password here"):
        open_database(storage)


def test_the_password_is_in_no_name_no_error_and_no_representation(postgres: PostgresDatabase) -> None:
    upgrade(postgres.storage())
    database = open_database(postgres.storage())
    shown = [str(database), repr(database), repr(postgres.storage()), repr(database._backend.reader)]
    with pytest.raises(StoreError) as caught, database.reading() as connection:
        connection.execute(text("SELECT CAST(:given AS int)"), {"given": PASSWORD})
    shown.append(str(caught.value))
    assert not [each for each in shown if PASSWORD in each]


def test_what_a_statement_was_given_is_in_no_error(each_database: Database) -> None:
    with pytest.raises(StoreError) as caught, each_database.writing() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:given)"), {"given": "geheim"})
    assert "geheim" not in str(caught.value)
