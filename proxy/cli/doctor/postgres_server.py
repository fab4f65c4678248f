"""What is looked at of PostgreSQL: reached, new enough, in charge, its schema and rights as needed, its clock right."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, text

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import file_id_of, ledger_files, reading
from proxy.billing.shipping import live
from proxy.cli.doctor.findings import CLOCK_FAILS_S, CLOCK_WARNS_S, Finding, ok, problem, warning
from proxy.cli.doctor.stores import projects_in
from proxy.config import database_address
from proxy.config.schema import Storage
from proxy.store import schema
from proxy.store.database import Database, backend_of
from proxy.store.schema import Backend
from proxy.store.sqlite import FILE_NAME
from proxy.store.store_error import StoreError
from proxy.store.tables import HEAD, projects, revision

OLDEST_SERVER = 13
RIGHTS: Mapping[str, tuple[str, ...]] = {
    "projects": ("SELECT", "INSERT", "UPDATE"),
    "keys": ("SELECT", "INSERT", "UPDATE"),
    "key_uses": ("SELECT", "INSERT", "UPDATE"),
    "audit_events": ("SELECT", "INSERT"),
    "events": ("SELECT", "INSERT", "UPDATE"),
    "disabled_upstreams": ("SELECT", "INSERT", "DELETE"),
    "revision": ("SELECT", "UPDATE"),
    "alembic_version": ("SELECT",),
    "schema_support": ("SELECT",),
    "usage_records": ("SELECT", "INSERT"),
    "refused_records": ("SELECT", "INSERT"),
    "adjustment_claims": ("SELECT", "INSERT"),
    "usage_hourly": ("SELECT", "INSERT", "UPDATE"),
    "file_spendings": ("SELECT", "INSERT", "UPDATE"),
    "shipped": ("SELECT", "INSERT", "UPDATE"),
    "removed_partitions": ("SELECT", "INSERT", "UPDATE"),
    "jobs": ("SELECT", "INSERT", "UPDATE"),
}
"""What serving takes, by table; `db upgrade` takes that one owns them."""
GRANT = "grant its user the rights that docs/postgresql.md lists"
_LOCAL = ("localhost", "127.", "::1", "/")


def check_postgres(storage: Storage, unix_s: Callable[[], float]) -> Iterator[Finding]:
    """In transactions that write nothing."""
    try:
        backend = backend_of(storage)
        with schema.explained(backend), backend.reader.connect() as connection:
            yield from _server(connection, backend, unix_s)
            yield from _encryption(connection, storage)
            yield from _schema(connection, backend, storage)
        with schema.explained(backend):
            yield from _pooler(backend)
    except StoreError as error:
        what, _, do = str(error).partition("; ")
        yield problem(what, do or "see docs/postgresql.md")


def _server(connection: Connection, backend: Backend, unix_s: Callable[[], float]) -> Iterator[Finding]:
    asked = unix_s()
    version, standby, now = connection.execute(
        text("SELECT current_setting('server_version'), pg_is_in_recovery(), extract(epoch FROM clock_timestamp())")
    ).one()
    off = (asked + unix_s()) / 2 - float(now)
    if int(version.split(".")[0].split("beta")[0].split("rc")[0]) < OLDEST_SERVER:
        yield problem(f"{backend.name}: PostgreSQL {version}", f"upgrade it: {OLDEST_SERVER} or newer is needed")
    else:
        yield ok(f"{backend.name}: PostgreSQL {version}")
    if standby:
        yield problem(
            "it is a standby, and takes no writes",
            "name the primary in storage.database_url, or all servers with ?target_session_attrs=read-write",
        )
    yield _clock(off)


def _clock(off: float) -> Finding:
    if abs(off) < CLOCK_WARNS_S:
        return ok("its clock and this machine's agree")
    what = f"its clock is {abs(off):,.0f} s {'behind' if off > 0 else 'ahead of'} this machine's"
    do = "set both by NTP: nodes take turns by its clock, and name days by theirs"
    return problem(what, do) if abs(off) > CLOCK_FAILS_S else warning(what, do)


def _encryption(connection: Connection, storage: Storage) -> Iterator[Finding]:
    driver: Any = connection.connection.driver_connection
    address = database_address.parse(storage.database_url)
    if driver.pgconn.ssl_in_use:
        yield ok("the connection is encrypted")
    elif not all(host.startswith(_LOCAL) for host, _ in address.hosts):
        yield warning(
            "what is asked and answered crosses the network in plain text",
            "let it speak TLS, and ask for it: ?sslmode=verify-full&sslrootcert=… in storage.database_url",
        )


def _schema(connection: Connection, backend: Backend, storage: Storage) -> Iterator[Finding]:
    upgrade = "run `weighbridge db upgrade`: until then no server starts"
    found = schema.version(connection)
    if found is None:
        yield problem("it has no tables of Weighbridge yet", upgrade)
        return
    if schema.usable(connection, backend, found):  # raises StoreError where it is too new
        yield warning(
            f"its schema is {found}, and this program's {HEAD}: it works with that, too", "upgrade this program"
        )
    elif found != HEAD:
        yield problem(f"its schema is {found}, and this program needs {HEAD}", upgrade)
        return
    else:
        yield ok(f"schema {found}")
    missing = _missing_rights(connection)
    if missing:
        yield problem(f"its user may not {missing}", GRANT)
    else:
        yield ok("its user has the rights that serving takes")
        yield from _partitions(connection)
        yield from _revision(connection)
        yield from _moved(connection, storage.data_dir)
        yield from _counts_alone(backend, storage)


def _missing_rights(connection: Connection) -> str:
    """Empty, or what the user may not do, in words."""
    wanted = [(table, right) for table, rights in RIGHTS.items() for right in rights]
    values = ", ".join(f"('{table}', '{right}')" for table, right in wanted)
    rows = connection.execute(
        text(f"SELECT t, r FROM (VALUES {values}) AS wanted (t, r) WHERE NOT has_table_privilege(t, r)")  # noqa: S608
    )
    missing = [f"{right} {table}" for table, right in rows]
    ids = connection.execute(
        text("SELECT has_sequence_privilege(pg_get_serial_sequence('audit_events', 'id'), 'USAGE')")
    )
    if ids.scalar() is False:
        missing.append("USE audit_events_id_seq")
    return ", ".join(missing)


def _partitions(connection: Connection) -> Iterator[Finding]:
    """Who isn't the owner ships for as long as another makes partitions."""
    owner, may = connection.execute(
        text(
            "SELECT relowner::regrole::text, pg_has_role(relowner, 'USAGE') FROM pg_class"
            " WHERE oid = 'usage_records'::regclass"
        )
    ).one()
    if not may:
        yield warning(
            "its user can't make partitions of usage_records: where no node can, records wait in their files when the "
            "months that were made ahead are over",
            f"see to it that one node at least has the tables' owner, {owner}, as its user",
        )


def _revision(connection: Connection) -> Iterator[Finding]:
    if len(connection.execute(select(revision)).all()) != 1:
        yield problem(
            "its table `revision` doesn't have its one row, so nobody would see that a key was revoked",
            "restore it from a backup, or put the row back: id 1, number 0",
        )


def _moved(connection: Connection, data_dir: Path) -> Iterator[Finding]:
    """A server that was told of PostgreSQL, and whose keys were not brought there, refuses all of them."""
    if connection.execute(select(projects.c.name).limit(1)).first() is None and (left := projects_in(data_dir)):
        yield problem(
            f"it has no project, and {data_dir / FILE_NAME} has {left:,}: their keys are refused",
            "stop the server, run `weighbridge store move`, start it again",
        )


def _counts_alone(backend: Backend, storage: Storage) -> Iterator[Finding]:
    """Of nodes without a Redis in common, each lets through all that a limit allows."""
    if storage.redis_url:
        return
    others = live(Database(backend)) - set(_ledger_files(storage.data_dir))
    if others:
        yield warning(
            "other nodes work on it, and no storage.redis_url is set: this one counts limits and budgets by itself",
            "give all nodes the same Redis: docs/fleet.md",
        )


def _ledger_files(data_dir: Path) -> Iterator[str]:
    for path in ledger_files(data_dir):
        with suppress(sqlite3.Error, LedgerUnusable), reading(path) as connection:
            yield file_id_of(connection)


def _pooler(backend: Backend) -> Iterator[Finding]:
    """A pooler tells its clients other numbers of processes than the server's: so it is known to be there.

    One that gives transactions of two clients the same connection pools by transaction.
    """
    with backend.reader.connect() as first, backend.reader.connect() as second:
        one = _process(first)
        first.rollback()
        other = _process(second)
        driver: Any = first.connection.driver_connection
        if driver.pgconn.backend_pid != one:
            mode = "transaction" if one == other else "session"
            yield ok(f"it is behind a pooler, in {mode} mode as far as can be told: both will do")


def _process(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
