"""The ledger in PostgreSQL: records by month, their sums, how far each ledger file was shipped. Nothing in SQLite."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NUMBERS = (
    "prompt_token_count",
    "cached_content_token_count",
    "tool_use_prompt_token_count",
    "thoughts_token_count",
    "candidates_token_count",
    "total_token_count",
)


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return  # ledger files are the ledger
    _create_records()
    _refuse_changes()
    _create_sums()
    op.create_table(
        "shipped",
        _text("file_id"),
        *(_number("through_seq"), _text("through_record_id"), _number("missing")),
        *(_text("node"), _text("slot"), _number("seen_at")),
        sa.PrimaryKeyConstraint("file_id", name="pk_shipped"),
    )
    op.create_table(
        "refused_records",
        *(_text("file_id"), _number("seq"), _text("record_id"), _text("why"), _text("record")),
        sa.PrimaryKeyConstraint("file_id", "seq", name="pk_refused_records"),
    )
    op.create_table(
        "removed_partitions",
        *(_text("name"), _number("removed_before")),
        sa.PrimaryKeyConstraint("name", name="pk_removed_partitions"),
    )
    op.create_table("jobs", _text("name"), _number("done_at"), sa.PrimaryKeyConstraint("name", name="pk_jobs"))


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _create_records() -> None:
    op.create_table(
        "usage_records",
        *(_number("seq"), _number("started_at"), _number("finished_at", nullable=True)),
        _number("http_status", nullable=True),
        *(_number(name, nullable=True) for name in _NUMBERS),
        *(_number("images"), _number("searches"), _number("cost_usd", nullable=True), _number("estimated")),
        *(_number("request_bytes"), _number("response_bytes")),
        *(_number("first_byte_ms", nullable=True), _number("duration_ms", nullable=True)),
        *(_text("record_id"), _text("kind"), _text("request_id"), _text("caused_by", nullable=True)),
        *(_text("project"), _text("key_id"), _text("key_name"), _text("upstream"), _text("operation")),
        *(_text("model"), _text("model_version", nullable=True), _text("service_tier", nullable=True)),
        *(_text("outcome"), _text("finish_reason", nullable=True), _text("response_id", nullable=True)),
        *(_text("usage", nullable=True), _text("prompt_tokens_details", nullable=True)),
        *(_text("candidates_tokens_details", nullable=True), _text("rates", nullable=True), _text("model_asked")),
        *(_text("priced_as", nullable=True), _text("price_source", nullable=True), _text("period")),
        *(_text("hint", nullable=True), _text("attempts", nullable=True), _text("file_id")),
        sa.PrimaryKeyConstraint("started_at", "record_id", name="pk_usage_records"),
        postgresql_partition_by="RANGE (started_at)",
    )
    op.create_index("ix_usage_records_record_id", "usage_records", ["record_id"])
    op.create_index("ix_usage_records_request_id", "usage_records", ["request_id"])
    op.create_index("ix_usage_records_file_id", "usage_records", ["file_id", "seq"])
    op.create_index(
        "ix_usage_records_no_call",
        "usage_records",
        ["started_at"],
        postgresql_where=sa.text("kind NOT IN ('call', 'turn')"),
    )


def _refuse_changes() -> None:
    """Records are insert-only; only whole months go, as partitions."""
    op.execute(
        "CREATE FUNCTION usage_records_insert_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'usage_records is insert-only: a correction is a row of its own'; END $$"
    )
    op.execute(
        "CREATE TRIGGER usage_records_insert_only BEFORE UPDATE OR DELETE ON usage_records"
        " FOR EACH ROW EXECUTE FUNCTION usage_records_insert_only()"
    )
    op.execute(
        "CREATE TRIGGER usage_records_no_truncate BEFORE TRUNCATE ON usage_records"
        " FOR EACH STATEMENT EXECUTE FUNCTION usage_records_insert_only()"
    )


def _create_sums() -> None:
    """Rows that are added to again and again: room beside them lets PostgreSQL do that without touching an index."""
    keys = ("project", "key_id", "model", "operation", "upstream", "service_tier", "outcome")
    sums = (
        *("calls", *_NUMBERS[:-1], "output_token_count"),
        *("images", "searches", "cost_usd", "unpriced_calls"),
    )
    op.create_table(
        "usage_hourly",
        _number("hour"),
        *(_text(key) for key in keys),
        _number("estimated"),
        *(_number(name) for name in sums),
        sa.PrimaryKeyConstraint("hour", *keys, "estimated", name="pk_usage_hourly"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "file_spendings",
        *(_text("file_id"), _text("period"), _text("project"), _text("key_id"), _text("model"), _number("cost_usd")),
        sa.PrimaryKeyConstraint("project", "period", "file_id", "key_id", "model", name="pk_file_spendings"),
        postgresql_with={"fillfactor": 70},
    )
