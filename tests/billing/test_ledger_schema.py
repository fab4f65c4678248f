"""What the tables of a ledger file promise by themselves, whoever writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from proxy.billing import ledger_schema as schema
from proxy.billing.records import COLUMNS, from_row, to_row
from tests.billing.sample import NOON, sample


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.bring_up_to_date(connection, "file-1")
        yield connection


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def hourly(connection: sqlite3.Connection, *names: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT {', '.join(names)} FROM usage_hourly ORDER BY hour, project, outcome").fetchall()


def test_a_record_has_a_column_for_each_of_its_fields_behind_seq(connection: sqlite3.Connection) -> None:
    assert columns(connection, "usage_records") == ["seq", *COLUMNS]


@pytest.mark.parametrize("statement", ["UPDATE usage_records SET cost_usd = 0", "DELETE FROM usage_records"])
def test_records_can_be_neither_changed_nor_deleted(connection: sqlite3.Connection, statement: str) -> None:
    connection.execute(schema.INSERT_RECORD, to_row(sample("a")))

    with pytest.raises(sqlite3.IntegrityError, match="insert-only"):
        connection.execute(statement)
    assert from_row(
        columns(connection, "usage_records")[1:], connection.execute("SELECT * FROM usage_records").fetchone()[1:]
    ) == sample("a")


@pytest.mark.parametrize(("seq", "record_id"), [(1, "b"), (2, "a")])
def test_records_cannot_be_replaced(connection: sqlite3.Connection, seq: int, record_id: str) -> None:
    """Neither by their number nor by their id; the hour doesn't count what wasn't written."""
    connection.execute(schema.INSERT_RECORD, to_row(sample("a")))
    other = [seq, *to_row(sample(record_id, cost_usd=1))]

    connection.execute(f"INSERT OR REPLACE INTO usage_records VALUES ({', '.join('?' * len(other))})", other)

    assert connection.execute("SELECT seq, record_id, cost_usd FROM usage_records").fetchall() == [(1, "a", 33_602_100)]
    assert hourly(connection, "calls", "cost_usd") == [(1, 33_602_100)]


def test_a_record_counts_once_however_often_it_is_inserted(connection: sqlite3.Connection) -> None:
    for _ in range(3):
        connection.execute(schema.INSERT_RECORD, to_row(sample("a")))
    connection.execute(schema.INSERT_RECORD, to_row(sample("b")))

    assert connection.execute("SELECT count(*) FROM usage_records").fetchone() == (2,)
    assert hourly(connection, "hour * 1000000", "calls", "images", "cost_usd") == [(NOON, 2, 2, 2 * 33_602_100)]


def test_hours_are_apart_by_start_and_outcome(connection: sqlite3.Connection) -> None:
    for record in (
        sample("a", started_at=NOON - 1),
        sample("b"),
        sample("c", outcome="truncated", estimated=True, service_tier="flex"),
    ):
        connection.execute(schema.INSERT_RECORD, to_row(record))

    assert hourly(connection, "hour", "outcome", "estimated", "service_tier", "calls") == [
        (NOON // 1_000_000 - 3600, "ok", 0, "", 1),
        (NOON // 1_000_000, "ok", 0, "", 1),
        (NOON // 1_000_000, "truncated", 1, "flex", 1),
    ]


@pytest.mark.parametrize(
    ("counts", "output"),
    [
        ({"total_token_count": 100, "prompt_token_count": 30, "tool_use_prompt_token_count": 20}, 50),
        ({"total_token_count": None, "candidates_token_count": 4, "thoughts_token_count": 3}, 7),
        ({"total_token_count": 10, "prompt_token_count": 12}, 0),
        ({"total_token_count": None, "prompt_token_count": 12, "candidates_token_count": None}, 0),
    ],
)
def test_output_is_total_less_prompt_and_tool_use(
    connection: sqlite3.Connection, counts: dict[str, int | None], output: int
) -> None:
    connection.execute(schema.INSERT_RECORD, to_row(sample("a", **counts)))

    assert hourly(connection, "output_token_count") == [(output,)]


def test_a_call_without_a_price_is_counted_apart_and_an_adjustment_is_no_call(connection: sqlite3.Connection) -> None:
    connection.execute(schema.INSERT_RECORD, to_row(sample("a", cost_usd=None)))
    connection.execute(schema.INSERT_RECORD, to_row(sample("b", kind="adjustment", cost_usd=-1_000)))

    assert hourly(connection, "calls", "unpriced_calls", "cost_usd") == [(1, 1, -1_000)]


def test_a_value_of_the_wrong_type_is_refused(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT"):
        connection.execute(schema.INSERT_RECORD, to_row(sample("a", images="many")))


def test_a_file_that_lacks_columns_gets_them_and_keeps_its_rows_and_its_id(connection: sqlite3.Connection) -> None:
    connection.execute(schema.INSERT_RECORD, to_row(sample("old")))
    connection.execute("DROP TRIGGER usage_records_hourly")
    connection.execute("ALTER TABLE usage_records DROP COLUMN hint")
    connection.execute("ALTER TABLE usage_records DROP COLUMN searches")
    connection.execute("ALTER TABLE usage_hourly DROP COLUMN searches")
    connection.execute("DROP INDEX usage_records_request_id")
    connection.execute("UPDATE file SET schema_version = 0")

    schema.bring_up_to_date(connection, "file-2")
    connection.execute(schema.INSERT_RECORD, to_row(sample("new", hint="h", searches=2)))

    rows = connection.execute("SELECT record_id, hint, searches FROM usage_records").fetchall()
    assert rows == [("old", None, 0), ("new", "h", 2)]
    assert hourly(connection, "calls", "searches") == [(2, 2)]
    indexes = {row[1] for row in connection.execute("PRAGMA index_list(usage_records)")}
    assert "usage_records_request_id" in indexes
    assert connection.execute("SELECT file_id FROM file").fetchone() == ("file-1",)
    assert schema.version_of(connection) == schema.SCHEMA_VERSION


def test_the_schema_version_goes_up_with_every_column() -> None:
    """New fields of UsageRecord need a new SCHEMA_VERSION, by which older programs refuse the file."""
    assert {3: (42, 11)}[schema.SCHEMA_VERSION] == (len(COLUMNS), len(schema.HOURLY_SUMS))
