"""Tables of the database. Times are Unix microseconds. Migrations make them; HEAD names the newest."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

HEAD = "0006"
"""The migration that this program is written for."""
OLDEST_PROGRAM = "0004"
"""The oldest HEAD whose programs work with this schema, too: nodes of that version go on beside upgraded ones. It moves
only where a migration takes something away, or changes what something means."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

projects = Table(
    "projects",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("limits", Text, nullable=False, server_default="[]"),
    Column("models", Text, nullable=False, server_default='["*"]'),
)
"""`limits`, `models`, `addresses`, here and in `keys`: JSON arrays of texts (proxy/tenants/policy.py reads them)."""

keys = Table(
    "keys",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("masked", String(63), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("limits", Text, nullable=False, server_default="[]"),
    Column("models", Text, nullable=False, server_default='["*"]'),
    Column("addresses", Text, nullable=False, server_default="[]"),
    Column("rotated_from", String(63)),
    Index("ix_keys_project", "project"),
    Index("ix_keys_rotated_from", "rotated_from"),
)
"""`digest` is the SHA-256 of the key, which itself is nowhere; `masked` is what people recognise it by."""

key_uses = Table(
    "key_uses",
    metadata,
    Column("key_id", String(63), primary_key=True),
    Column("last_used_at", BigInteger, nullable=False),
)
"""When a key was last used: apart from `keys`, because it is nothing that anybody caches. No foreign key: a use of a
key that a restored backup doesn't know must not stop the uses of all others from being written."""

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("action", String(63), nullable=False),
    Column("project", String(63), nullable=False),
    Column("key_id", String(63)),
    Column("changes", Text, nullable=False),
    Column("upstream", String(63)),
    Index("ix_audit_events_project", "project", "id"),
    sqlite_autoincrement=True,  # an id is never given twice
)
"""Who changed projects, keys and upstreams, when, and what: insert-only. `changes` is JSON (proxy/tenants/audit.py
writes it); `project` is empty where it is about an upstream."""

events = Table(
    "events",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("type", String(63), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("once", String(255), nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", BigInteger),
    Column("last_answer", String(255)),
    Column("delivered_at", BigInteger),
    Index("ix_events_undelivered", "next_attempt_at"),
)
"""What happened that others are told of, once: `once` says of what (proxy/control/event_table.py). `body` is the JSON
that is sent, the same each time. No `next_attempt_at`: it is not to be sent, or is delivered."""

disabled_upstreams = Table(
    "disabled_upstreams",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("disabled_at", BigInteger, nullable=False),
)
"""Upstreams that the operator took out of service. All else of upstreams stands in the configuration, so a name may be
of none that is listed any more."""

revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
"""One row. Every write raises its number, in the write's own transaction: who caches projects, keys or the disabled
upstreams watches it."""
