"""Virtual keys as stored: made, listed, rotated, revoked. keyring.py tells whose one is, key_format.py what one is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, select

from proxy.config.limits import Limit
from proxy.store.database import Database
from proxy.store.tables import key_uses, keys
from proxy.telemetry.redaction import redact
from proxy.tenants import audit, projects
from proxy.tenants.key_format import PREFIX, Below, digest, masked, mint, random_text
from proxy.tenants.policy import (
    ALL,
    UNRESTRICTED,
    Policy,
    check_addresses,
    check_models,
    read_limits,
    read_texts,
    write_texts,
)
from proxy.tenants.projects import BadNameError, BadOptionError, TenancyError, bad_options

_NAME = re.compile(r"[^\W_][\w .@/-]{0,62}")

END_OF_TIME = 253_402_300_800_000_000
"""The year 10000, beyond which there is no RFC 3339 to write a time in."""


class UnknownKeyError(TenancyError):
    """There is no key of this id."""


class Tenant(NamedTuple):
    """Whose call it is, and what it may do: what a valid key says."""

    project: str
    key_id: str
    key_name: str
    policy: Policy = UNRESTRICTED


class Key(NamedTuple):
    """A key as stored: not the key itself, which nobody has. Times are Unix microseconds."""

    id: str
    project: str
    name: str
    masked: str
    created_at: int
    revoked_at: int | None = None
    expires_at: int | None = None
    models: tuple[str, ...] = ALL
    addresses: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    rotated_from: str | None = None
    """The id of the key that it takes the place of."""
    last_used_at: int | None = None
    """To the minute or so: the server writes it once a minute."""

    def state(self, now: int) -> str:
        """Whether it is served: "active", "expired" or "revoked". That its project is disabled is another matter."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


def create(
    database: Database,
    project: str,
    name: str,
    now: int,
    below: Below,
    *,
    actor: str,
    expires_at: int | None = None,
    models: Sequence[str] = ALL,
    addresses: Sequence[str] = (),
    limits: tuple[Limit, ...] = (),
) -> tuple[Key, str]:
    """Makes a key of a project. Returns what is stored, and the key itself, which is nowhere else.

    Raises UnknownProjectError, TenancyError where it is disabled, BadNameError, BadOptionError, StoreError.
    """
    if not _NAME.fullmatch(name) or redact(name) != name:
        raise BadNameError(
            f"{redact(name[:80])!r} can't be a key's name: write 1 to 63 letters, digits, spaces and any of . _ - @ /, "
            "beginning with a letter or a digit"
        )
    _check_expiry(expires_at, now)
    secret = mint(below)
    with bad_options():
        key = Key(
            id="key_" + random_text(16, below),
            project=project,
            name=name,
            masked=masked(secret),
            created_at=now,
            expires_at=expires_at,
            models=check_models(models),
            addresses=check_addresses(addresses),
            limits=limits,
        )
    with database.writing() as connection:
        _insert(connection, key, secret, now, actor)
    return key, secret


def rotate(
    database: Database,
    key_id: str,
    now: int,
    below: Below,
    *,
    actor: str,
    overlap: int,
    expires_at: int | None = None,
) -> tuple[Key, Key, str]:
    """Makes a key with the same options in another's place. That one is served for `overlap` (us) more.

    The new one expires when the old one was to, unless `expires_at` says otherwise. Returns the old key and the new as
    stored, and the new key itself. Raises UnknownKeyError, TenancyError where it is revoked, expired, rotated already
    or its project disabled, BadOptionError, StoreError.
    """
    _check_expiry(expires_at, now)
    if not 0 <= overlap < END_OF_TIME - now:
        raise BadOptionError("an overlap is 0 (none) or more, and ends before the year 10000")
    secret = mint(below)
    new_id = "key_" + random_text(16, below)
    with database.writing() as connection:
        old = find(connection, key_id)
        _check_rotation(connection, old, now)
        new = old._replace(
            id=new_id,
            masked=masked(secret),
            created_at=now,
            expires_at=old.expires_at if expires_at is None else expires_at,
            rotated_from=old.id,
            last_used_at=None,
        )
        _insert(connection, new, secret, now, actor)
        until = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
        old = _change(connection, "key.rotate", old, old._replace(expires_at=until), now, actor)
    return old, new, secret


def _check_expiry(expires_at: int | None, now: int) -> None:
    if expires_at is not None and not now < expires_at < END_OF_TIME:
        raise BadOptionError("a key expires after it is made, and before the year 10000: name another time")


def _check_rotation(connection: Connection, old: Key, now: int) -> None:
    if (state := old.state(now)) != "active":
        raise TenancyError(
            f"key {old.id} is {state}: nothing is left to overlap with. Make a new one: "
            f"`weighbridge key create {old.project}`"
        )
    successor = connection.scalar(select(keys.c.id).where(keys.c.rotated_from == old.id))
    if successor is not None:
        raise TenancyError(f"key {old.id} was rotated already, to {successor}: rotate that one")


def revoke(database: Database, key_id: str, now: int, *, actor: str) -> Key:
    """Has a key refused from within 2 s on, for good. Done twice, the first time stands.

    Raises UnknownKeyError, StoreError.
    """
    with database.writing() as connection:
        key = find(connection, key_id)
        changed = key if key.revoked_at is not None else key._replace(revoked_at=now)
        return _change(connection, "key.revoke", key, changed, now, actor)


def list_keys(database: Database, project: str | None = None) -> list[Key]:
    """The keys of a project, or of all, the oldest first. Raises UnknownProjectError, StoreError."""
    query = _SELECT.order_by(keys.c.project, keys.c.created_at, keys.c.id)
    with database.reading() as connection:
        if project is not None:
            query = query.where(keys.c.project == projects.find(connection, project).name)
        return [_key(row) for row in connection.execute(query).mappings()]


def find(connection: Connection, key_id: str) -> Key:
    """One key, within a transaction. Raises UnknownKeyError, which repeats no key that was given in its id's place."""
    row = connection.execute(_SELECT.where(keys.c.id == key_id)).mappings().first()
    if row is None:
        key_given = PREFIX in key_id
        shown = "the key itself is not its id" if key_given else f"there is no key {redact(key_id[:80])!r}"
        raise UnknownKeyError(f"{shown}; `weighbridge key list` names the ids")
    return _key(row)


_SELECT = select(
    *(keys.c[field] for field in Key._fields if field != "last_used_at"), key_uses.c.last_used_at
).select_from(keys.outerjoin(key_uses, key_uses.c.key_id == keys.c.id))


def _key(row: RowMapping) -> Key:
    texts = {name: read_texts(row[name]) for name in ("models", "addresses")}
    return Key(**{**row, **texts, "limits": read_limits(row["limits"])})


def _row(key: Key) -> dict[str, Any]:
    row = key._asdict() | {name: write_texts(getattr(key, name)) for name in ("models", "addresses", "limits")}
    del row["last_used_at"]
    return row


def _insert(connection: Connection, key: Key, secret: str, now: int, actor: str) -> None:
    if projects.find(connection, key.project).disabled_at is not None:
        raise TenancyError(f"project {key.project!r} is disabled: a key of it would be refused")
    connection.execute(keys.insert().values(_row(key) | {"digest": digest(secret)}))
    audit.note(connection, "key.create", key.project, key.id, at=now, actor=actor, before={}, after=_told(key))


def _change(connection: Connection, action: str, key: Key, changed: Key, now: int, actor: str) -> Key:
    """Writes a key anew, and who changed it; nothing where nothing changed."""
    if changed != key:
        connection.execute(keys.update().where(keys.c.id == key.id).values(_row(changed)))
        before, after = _told(key), _told(changed)
        audit.note(connection, action, key.project, key.id, at=now, actor=actor, before=before, after=after)
    return changed


def _told(key: Key) -> dict[str, Any]:
    """A key as audit events tell of it: nothing that it could be known by."""
    return {
        "name": key.name,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "models": list(key.models),
        "addresses": list(key.addresses),
        "limits": [str(limit) for limit in key.limits],
        "rotated_from": key.rotated_from,
    }
