"""Which upstreams the operator took out of service: written by commands, followed by every server of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from sqlalchemy import Connection, select

from proxy.store.database import Database
from proxy.store.tables import disabled_upstreams
from proxy.telemetry.redaction import redact
from proxy.tenants import audit


def read(connection: Connection) -> Mapping[str, int]:
    """Since when which are disabled, by name, in Unix microseconds."""
    return {row.name: row.disabled_at for row in connection.execute(select(disabled_upstreams))}


def list_disabled(database: Database) -> Mapping[str, int]:
    """As `read`, in a transaction of its own. Raises StoreError."""
    with database.reading() as connection:
        return read(connection)


def disable(database: Database, name: str, now: int, *, actor: str) -> int:
    """Takes one out within 2 s, until it is enabled again. Returns since when: done twice, the first time stands.

    Which names there are only the configuration knows: look there first. Raises StoreError.
    """
    with database.writing() as connection:
        since = read(connection).get(name)
        if since is not None:
            return since
        connection.execute(disabled_upstreams.insert().values(name=name, disabled_at=now))
        _note(connection, "upstream.disable", name, now, actor, before=None, after=now)
    return now


def enable(database: Database, name: str, now: int, *, actor: str) -> bool:
    """Has one asked again within 2 s. Returns whether it was disabled. Raises StoreError."""
    with database.writing() as connection:
        since = read(connection).get(name)
        if since is None:
            return False
        connection.execute(disabled_upstreams.delete().where(disabled_upstreams.c.name == name))
        _note(connection, "upstream.enable", name, now, actor, before=since, after=None)
    return True


def unknown(name: str, names: Sequence[str]) -> str:
    """Says that no upstream has this name, and which there are."""
    there = f"those there are: {', '.join(names)}" if names else "the configuration lists none"
    near = get_close_matches(name[:80], names, n=1)
    meant = f". Did you mean {near[0]!r}?" if near else ""
    return f"there is no upstream {redact(name[:80])!r}; {there}{meant}"


def _note(
    connection: Connection, action: str, name: str, now: int, actor: str, *, before: int | None, after: int | None
) -> None:
    states = {"disabled_at": before}, {"disabled_at": after}
    audit.note(connection, action, "", upstream=name, at=now, actor=actor, before=states[0], after=states[1])
