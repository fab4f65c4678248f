"""What PostgreSQL has of ledger files, for the tests of shipping: an empty ledger's database, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

import proxy.store.migrations
from proxy.store.database import Database, StoreError
from tests.postgres_servers import PASSWORD, PostgresDatabase


class Pg(Database):
    def __init__(self, postgres: PostgresDatabase) -> None:
        url = engine.make_url(postgres.url).set(drivername="postgresql+psycopg", password=PASSWORD)
        self._e = create_engine(url, connect_args={"prepare_threshold": None, "connect_timeout": 3}, pool_pre_ping=True)

    @contextmanager
    def noting(self, *, limit_s=None) -> Iterator[Connection]:
        try:
            with self._e.begin() as c:
                yield c
        except SQLAlchemyError as error:
            raise StoreError(str(error.orig) if isinstance(error, DBAPIError) else str(error)) from error

    reading = noting


def ledger_database(postgres: PostgresDatabase) -> Database:
    """The database at this program's version."""
    config = Config()
    config.set_main_option("script_location", proxy.store.migrations.__path__[0])
    database = Pg(postgres)
    with database.noting() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return database
