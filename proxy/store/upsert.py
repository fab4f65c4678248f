"""Insert … on conflict: both databases have it in the same words, and SQLAlchemy has it twice."""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = postgresql.Insert | sqlite.Insert
"""What takes `on_conflict_do_nothing` and `on_conflict_do_update`."""


def insert(connection: Connection, table: Table) -> Insert:
    """An insert into a table, in the dialect of the database that the connection leads to. Its `rowcount` counts."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new: Insert = dialect.insert(table)
    return new.execution_options(preserve_rowcount=True)  # else it is -1 for PostgreSQL
