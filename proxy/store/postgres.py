"""PostgreSQL as the database: how it is connected to, and how long anything may take, also where nobody answers."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from proxy.config.database_address import DatabaseAddress
from proxy.store.postgres_advice import explained

CONNECT_S = 3
"""For each address that the host's name leads to. libpq takes whole seconds, 2 at least."""
STATEMENT_S = 8.0
"""What a statement gets, unless its transaction asks for another limit."""
GRACE_S = 2.0
"""How much longer is waited for the server to say itself that a statement took too long."""
PING_S = 3.0
IDLE_IN_WRITE_S = 15
"""For so long a writer may leave others waiting that does nothing: its machine may have stopped. One that asks for
another limit gets that here, too."""
CONNECTIONS, MORE_CONNECTIONS = 2, 10
"""How many are kept open for the next use, and how many more are opened where many threads want one at once."""


class Postgres:
    """A database in PostgreSQL 13 or newer. Nothing of a session is relied on: it may be behind a pgbouncer that gives
    each transaction another connection."""

    postgresql = True

    def __init__(self, address: DatabaseAddress, password: str | None) -> None:
        self.name = str(address)
        self._password = password
        connecting = _options(address, password)
        self.reader = create_engine(
            "postgresql+psycopg://",
            creator=lambda: _Bounded.connect(**connecting),
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=CONNECT_S + STATEMENT_S,
            pool_pre_ping=True,
            use_native_hstore=False,  # else it looks up, first of all, whether there is such a type
            hide_parameters=True,
        )
        event.listen(self.reader, "begin", _begin)
        event.listen(self.reader, "checkin", _expect_ping)
        _engines.add(self.reader)
        self.writer = self.reader.execution_options(begin="WRITE")

    def make(self) -> None:
        """Whoever runs PostgreSQL makes databases in it, and says who owns them."""

    def explain(self, error: SQLAlchemyError) -> str:
        """Says what happened, and what to do."""
        what = error.orig if isinstance(error, DBAPIError) and error.orig else error
        return explained(what, self._password)


class _Bounded(psycopg.Connection[Any]):
    """A connection on which nothing is waited for longer than `patience_s`, whatever becomes of the server."""

    patience_s = PING_S

    def __del__(self, *_: Any) -> None:
        """Whoever lets go of a database lets go of its connections: psycopg would warn of each."""

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # what is under way on it is unknown: SQLAlchemy lets go of it
            raise psycopg.OperationalError(f"no answer within {self.patience_s:g} s") from None


def _options(address: DatabaseAddress, password: str | None) -> dict[str, Any]:
    return {
        **address.connection,
        **({} if password is None else {"password": password}),
        "prepare_threshold": None,  # prepared statements are a session's
        "connect_timeout": CONNECT_S,
        "application_name": "weighbridge",
        "client_encoding": "UTF8",
        "gssencmode": "disable",
        # A server that has gone without a word is noticed on connections that nobody waits on, too.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }


def _begin(connection: Connection) -> None:
    """Bounds what the transaction's statements may take, in one round trip; what is read in it is of one moment."""
    options = connection.get_execution_options()
    asked = options.get("limit_s")
    limit_s = float(asked or STATEMENT_S)
    driver: Any = connection.connection.driver_connection
    driver.patience_s = limit_s + GRACE_S
    limits = f"SET LOCAL statement_timeout = {limit_s * 1000:.0f}"
    if options.get("begin") == "WRITE":
        idle_s = asked or IDLE_IN_WRITE_S
        connection.exec_driver_sql(f"{limits}; SET LOCAL idle_in_transaction_session_timeout = '{idle_s:g}s'")
    else:
        connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; {limits}")


def _expect_ping(connection: Any, record: Any) -> None:
    """The next that is done on it is to ask whether it still is one."""
    if connection is not None:
        connection.patience_s = PING_S


_engines: WeakSet[Engine] = WeakSet()


def _forget_connections() -> None:
    """A connection that was open at a fork is the parent's. psycopg doesn't close what another process has opened."""
    for engine in _engines:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)
