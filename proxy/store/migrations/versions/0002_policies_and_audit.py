"""Limits, models, addresses and expiry of projects and keys; when a key was last used; who changed what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _texts(name: str, default: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def upgrade() -> None:
    op.add_column("projects", _texts("limits", "[]"))
    op.add_column("projects", _texts("models", '["*"]'))
    op.add_column("keys", sa.Column("expires_at", sa.BigInteger))
    op.add_column("keys", _texts("limits", "[]"))
    op.add_column("keys", _texts("models", '["*"]'))
    op.add_column("keys", _texts("addresses", "[]"))
    op.add_column("keys", sa.Column("rotated_from", sa.String(63)))
    op.create_index("ix_keys_rotated_from", "keys", ["rotated_from"])
    op.create_table(
        "key_uses",
        sa.Column("key_id", sa.String(63), nullable=False),
        sa.Column("last_used_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_uses"),
    )
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("action", sa.String(63), nullable=False),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("key_id", sa.String(63)),
        sa.Column("changes", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_events_project", "audit_events", ["project", "id"])
