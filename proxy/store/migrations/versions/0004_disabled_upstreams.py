"""Upstreams that the operator took out of service, and audit events that are about an upstream."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "disabled_upstreams",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("disabled_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_disabled_upstreams"),
    )
    op.add_column("audit_events", sa.Column("upstream", sa.String(63)))
