"""Audit events: who changed projects, keys and upstreams, when, and what. Written in the change's own transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from proxy.store.database import Database
from proxy.store.tables import audit_events


class AuditEvent(NamedTuple):
    """One change. `changes` is what differs, by field: {"limits": {"before": […], "after": […]}}; times in Unix us.

    `project` is empty where it is about an `upstream`.
    """

    id: int
    at: int
    actor: str
    action: str
    project: str
    key_id: str | None
    changes: dict[str, dict[str, Any]]
    upstream: str | None = None


def note(
    connection: Connection,
    action: str,
    project: str,
    key_id: str | None = None,
    *,
    upstream: str | None = None,
    at: int,
    actor: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """Writes down who (`actor`, such as "cli:root") changed what: the fields that differ between two states.

    What is handed in must hold no secret and no digest.
    """
    changes = {
        name: {"before": before.get(name), "after": value} for name, value in after.items() if before.get(name) != value
    }
    about = {"project": project, "key_id": key_id, "upstream": upstream}
    row = {"at": at, "actor": actor[:255], "action": action, **about}
    connection.execute(audit_events.insert().values(**row, changes=json.dumps(changes, ensure_ascii=False)))


def list_events(
    database: Database,
    *,
    limit: int,
    project: str | None = None,
    since: int | None = None,
    before: int | None = None,
) -> list[AuditEvent]:
    """The newest events, the newest first: of a project, not older than `since`, with ids below `before`.

    To page, ask again with the last one's id as `before`. Raises StoreError.
    """
    query = select(audit_events).order_by(audit_events.c.id.desc()).limit(limit)
    if project is not None:
        query = query.where(audit_events.c.project == project)
    if since is not None:
        query = query.where(audit_events.c.at >= since)
    if before is not None:
        query = query.where(audit_events.c.id < before)
    with database.reading() as connection:
        rows = connection.execute(query).mappings()
        return [AuditEvent(**{**row, "changes": json.loads(row["changes"])}) for row in rows]
