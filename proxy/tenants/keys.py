"""Virtual keys: what one looks like, and how they are minted, listed and revoked. keyring.py tells whose one is."""

from __future__ import annotations

import hashlib
import re
import string
import zlib
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import select

from proxy.store.database import Database
from proxy.store.tables import keys
from proxy.tenants import projects
from proxy.tenants.projects import BadNameError, TenancyError

PREFIX = "wb_"
RANDOM_LENGTH = 32
CHECKSUM_LENGTH = 6
LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECKSUM_LENGTH
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

Below = Callable[[int], int]
"""A random number from 0 up to, and without, the one given. `secrets.randbelow`, save in tests."""


class UnknownKeyError(TenancyError):
    """There is no key of this id."""


class Tenant(NamedTuple):
    """Whose call it is: what a valid key says."""

    project: str
    key_id: str
    key_name: str


class Key(NamedTuple):
    """A key as stored: not the key itself. `masked` (prefix, first and last four characters) is to recognise it by."""

    id: str
    project: str
    name: str
    masked: str
    created_at: int
    revoked_at: int | None


def mint(below: Below) -> str:
    """A new key: `wb_`, 32 random base62 characters (190 bits), and their CRC32 as six more.

    The checksum lets us, and those who search code for leaked secrets, tell a key from junk without a look-up.
    """
    random = "".join(BASE62[below(62)] for _ in range(RANDOM_LENGTH))
    return PREFIX + random + _checksum(random)


def _checksum(random: str) -> str:
    rest = zlib.crc32(random.encode())
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        rest, digit = divmod(rest, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))


def well_formed(key: str) -> bool:
    """Whether this could be a key of ours; says nothing of whether it is one."""
    if len(key) != LENGTH or not key.startswith(PREFIX) or not key.isascii():
        return False
    return key[-CHECKSUM_LENGTH:] == _checksum(key[len(PREFIX) : -CHECKSUM_LENGTH])


def digest(key: str) -> bytes:
    """What is stored of a key: enough to know it again. 190 random bits need neither salt nor stretching."""
    return hashlib.sha256(key.encode()).digest()


def create(database: Database, project: str, name: str, now: int, below: Below) -> tuple[Key, str]:
    """Makes a key of a project. Returns what is stored, and the key itself, which is nowhere else.

    Raises UnknownProjectError, TenancyError where it is disabled, BadNameError, StoreError.
    """
    if not re.fullmatch(r"[^\W_][\w .@/-]{0,62}", name):
        raise BadNameError(
            f"{name!r} can't be a key's name: write 1 to 63 letters, digits, spaces and any of . _ - @ /, "
            "beginning with a letter or a digit"
        )
    secret = mint(below)
    key_id = "key_" + "".join(BASE62[below(62)] for _ in range(16))
    key = Key(key_id, project, name, f"{secret[:7]}…{secret[-CHECKSUM_LENGTH - 4 : -CHECKSUM_LENGTH]}", now, None)
    with database.writing() as connection:
        if projects.find(connection, project).disabled_at is not None:
            raise TenancyError(f"project {project!r} is disabled: a key of it would be refused")
        connection.execute(keys.insert().values(**key._asdict(), digest=digest(secret)))
    return key, secret


def list_keys(database: Database, project: str | None = None) -> list[Key]:
    """The keys of a project, or of all, the oldest first. Raises UnknownProjectError, StoreError."""
    query = select(*(keys.c[field] for field in Key._fields)).order_by(keys.c.project, keys.c.created_at, keys.c.id)
    with database.reading() as connection:
        if project is not None:
            query = query.where(keys.c.project == projects.find(connection, project).name)
        return [Key(*row) for row in connection.execute(query)]


def revoke(database: Database, key_id: str, now: int) -> Key:
    """Has a key refused from within 2 s on, for good. Done twice, the first time stands.

    Raises UnknownKeyError, StoreError.
    """
    with database.writing() as connection:
        row = connection.execute(select(*(keys.c[field] for field in Key._fields)).where(keys.c.id == key_id)).first()
        if row is None:
            # A key given in place of its id must not be shown.
            shown = "the key itself is not its id" if key_id.startswith(PREFIX) else f"there is no key {key_id!r}"
            raise UnknownKeyError(f"{shown}; `weighbridge key list` names the ids")
        key = Key(*row)
        if key.revoked_at is None:
            key = key._replace(revoked_at=now)
            connection.execute(keys.update().where(keys.c.id == key_id).values(revoked_at=now))
        return key
