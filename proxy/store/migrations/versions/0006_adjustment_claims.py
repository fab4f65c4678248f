"""Ids of adjustments are claimed in PostgreSQL before their records are written. Nothing in SQLite."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return  # one process writes all adjustments
    op.create_table(
        "adjustment_claims",
        sa.Column("record_id", sa.Text(collation="C"), nullable=False),
        sa.Column("claimed_at", sa.BigInteger, nullable=False),
        sa.Column("record", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("record_id", name="pk_adjustment_claims"),
    )
