"""All keys and what they may do, as the database has them at one moment: what the keyring answers from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

import structlog
from sqlalchemy import literal, literal_column, select

from proxy.store.database import Database, StoreError
from proxy.store.tables import keys, projects, revision
from proxy.tenants import disabled_upstreams
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy, StoredPolicy

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


class Snapshot(NamedTuple):
    """All keys that were not revoked, by digest, at one revision of the database. 100,000 of them take some 35 MB."""

    revision: int | None
    tenants: dict[bytes, Tenant]
    """Those that have expired are among them: that depends on when they are asked for."""
    disabled: dict[bytes, str]
    """Keys of projects that are disabled, and which project."""
    disabled_upstreams: Mapping[str, int]
    """Those that the operator took out of service, and since when (Unix microseconds)."""
    written_by: str = ""
    """The transaction that raised the revision, where that can be told: in PostgreSQL."""


NOTHING = Snapshot(None, {}, {}, {})

_QUERY = (
    select(
        keys.c.digest,
        projects.c.disabled_at,
        keys.c.project,
        keys.c.id,
        keys.c.name,
        # In the order of StoredPolicy's fields.
        projects.c.models,
        keys.c.models,
        keys.c.addresses,
        keys.c.expires_at,
        projects.c.limits,
        keys.c.limits,
    )
    .join_from(keys, projects)
    .where(keys.c.revoked_at.is_(None))
)
_REVISION = {
    False: select(revision.c.number, literal("")),
    # A row's xmin is what wrote it: https://www.postgresql.org/docs/current/ddl-system-columns.html
    True: select(revision.c.number, literal_column("revision.xmin::text")),
}


def read_snapshot(database: Database, held: Snapshot) -> Snapshot:
    """What the database holds now: `held` itself, where its revision still stands. Raises StoreError."""
    with database.reading() as connection:
        number, written_by = connection.execute(_REVISION[database.postgresql]).one()
        # Not "greater": one that went back is a database restored from a backup. One that was changed since, as often
        # as what it replaces, has the same number.
        if (number, written_by) == (held.revision, held.written_by):
            return held
        tenants: dict[bytes, Tenant] = {}
        disabled: dict[bytes, str] = {}
        policies = _Policies()
        for hashed, disabled_at, project, key_id, name, *stored in connection.execute(_QUERY):
            if disabled_at is not None:
                disabled[hashed] = sys.intern(project)
            elif (policy := policies.read(StoredPolicy(*stored), key_id)) is not None:
                # One string for all keys of a project, and for all that are called "default".
                tenants[hashed] = Tenant(sys.intern(project), key_id, sys.intern(name), policy)
        upstreams = disabled_upstreams.read(connection)
    return Snapshot(number, tenants, disabled, upstreams, written_by)


class _Policies:
    """Reads policies, each but once: keys that may do the same share one."""

    def __init__(self) -> None:
        self._known: dict[StoredPolicy, Policy | None] = {}

    def read(self, stored: StoredPolicy, key_id: str) -> Policy | None:
        """None where it can't be read. The key is refused then, and only that: no other key must suffer for it."""
        if stored not in self._known:
            try:
                self._known[stored] = stored.read()
            except StoreError as error:
                self._known[stored] = None
                log.error("policy_unreadable", key=key_id, why=str(error), what="keys with this policy are refused")
        return self._known[stored]
