"""Records shipped to a real PostgreSQL: each once, whole, and summed with what is there."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from proxy.billing import shipping
from proxy.billing.ledger_reading import file_id_of, reading
from proxy.billing.periods import DAY_US, Days
from proxy.billing.records import COLUMNS
from proxy.billing.shipping import Cursor, Lack, Moved, Place, Shipping
from proxy.store.database import Database
from tests.billing.sample import NOON, sample
from tests.billing.shipped import (
    assert_sums_are_those_of_the_records,
    calls,
    hours_in,
    hours_of,
    put,
    records_in,
    records_of,
    rows,
    ship_all,
)
from tests.billing.test_reports import at_random

DAY_OF = Days("UTC").name


@pytest.fixture
def database(postgres_database: Database) -> Database:
    return postgres_database


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shipping, "PAGE_RECORDS", 7)
    return None


def test_a_record_is_in_postgresql_as_it_is_in_the_file(tmp_path: Path, database: Database) -> None:
    path = put(
        tmp_path,
        sample("a", service_tier="priority", cost_usd=None, hint="Zoë 🎈 \\u0000 \u2028"),
        sample("b", estimated=True, outcome="truncated", usage=None, total_token_count=None, thoughts_token_count=4),
        sample("c", kind="adjustment", operation="adjustment", cost_usd=-(2**53) - 1, key_id="", model="", images=0),
        sample("d", started_at=NOON + 3_600_000_000, response_bytes=2**62),
    )
    assert ship_all(database, path) == Cursor(4, "d")
    assert records_in(database) == records_of(path)
    assert hours_in(database) == hours_of(path)
    assert_sums_are_those_of_the_records(database)


@pytest.mark.parametrize("seed", range(2))
def test_sums_are_those_of_the_records_after_any_history(
    tmp_path: Path, database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of several nodes, in pages of any size, with cursors that were lost and records that come twice."""
    chance = random.Random(seed)
    for turn in range(9):
        data_dir, slot = tmp_path / chance.choice("ab"), chance.choice("01")
        records = [at_random(f"{data_dir.name}{slot}-{chance.randrange(60)}", chance) for _ in range(12)]  # type: ignore[arg-type]
        path = put(data_dir, *records, slot=slot)
        monkeypatch.setattr(shipping, "PAGE_RECORDS", chance.randrange(1, 15))
        if chance.random() < 0.3:
            with database.noting() as connection:
                connection.exec_driver_sql("UPDATE shipped SET through_seq = 0, through_record_id = ''")
        ship_all(database, path)
        assert_sums_are_those_of_the_records(database)
        assert {row[1:] for row in records_of(path)} <= {row[1:] for row in records_in(database)}, turn


def test_it_works_behind_pgbouncer(tmp_path: Path, pgbouncer_database: Database) -> None:
    """In transaction mode, where no two transactions need be of one session."""
    path = put(tmp_path, *calls(range(20)))
    ship_all(pgbouncer_database, path)
    assert records_in(pgbouncer_database) == records_of(path)


def test_a_file_of_an_older_version_is_shipped_with_defaults(tmp_path: Path, database: Database) -> None:
    """Read as it is: nothing is added to it."""
    path = put(tmp_path, sample("old", searches=0))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for trigger in ("usage_records_hourly", "usage_records_no_update"):
            connection.execute(f"DROP TRIGGER {trigger}")
        for column in ("hint", "searches", "price_source"):
            connection.execute(f"ALTER TABLE usage_records DROP COLUMN {column}")
        connection.execute("UPDATE file SET schema_version = 0")
    ship_all(database, path)
    assert rows(database, "SELECT record_id, hint, searches, images FROM usage_records") == [("old", None, 0, 1)]


def test_late_records_and_wrong_clocks_have_their_partitions(tmp_path: Path, database: Database) -> None:
    """Months ago, before there were any, far ahead, and before 1970."""
    times = [NOON, NOON - 200 * 86_400_000_000, 0, -5_000_000, 4_200_000_000_000_000, 2**62]
    path = put(tmp_path, *(sample(f"{number}", started_at=at) for number, at in enumerate(times)))
    ship_all(database, path)
    assert [row[COLUMNS.index("started_at") + 2] for row in records_in(database)] == times
    found = rows(database, "SELECT tableoid::regclass::text, count(*) FROM usage_records GROUP BY 1 ORDER BY 1")
    assert found == [
        ("usage_records_2026_05", 1),
        ("usage_records_2026_11", 1),
        ("usage_records_early", 2),
        ("usage_records_late", 2),
    ]
    assert_sums_are_those_of_the_records(database)


def test_a_partition_that_was_dropped_meanwhile_is_made_again(tmp_path: Path, database: Database) -> None:
    path = put(tmp_path, *calls(range(2)))
    ships = Shipping(database)
    with reading(path) as connection:
        file_id = file_id_of(connection)
        cursor = shipping.look(database, {file_id: Place("node", "0")}, [])[file_id]
        first, second = shipping.read_page(connection, file_id, 0)
    cursor = ships.ship(file_id, cursor, [first])
    with database.noting() as connection:
        connection.exec_driver_sql("DROP TABLE usage_records_2026_11")
    assert ships.ship(file_id, cursor, [second]).seq == 2
    assert [row[1] for row in records_in(database)] == [2]


def test_of_a_file_that_went_back_it_is_known_what_was_shipped_and_dropped(tmp_path: Path, database: Database) -> None:
    """Also where a newer call stands among the older ones, if PostgreSQL has that; else all from there on is."""
    newer, older = calls(range(3, 4)), calls(range(4, 6), started_at=NOON - 70 * DAY_US)
    path = put(tmp_path, *calls(range(3), started_at=NOON - 70 * DAY_US), *newer, *older, *calls(range(6, 8)))
    with reading(path) as file:
        rows_of = shipping.read_page(file, file_id_of(file), 0)
        assert shipping.dropped_of(database, file, Cursor(8)) == 0
        with database.noting() as connection:
            month = {"name": "usage_records_2026_09", "before": NOON - 50 * DAY_US}
            connection.execute(text("INSERT INTO removed_partitions VALUES (:name, :before)"), month)
        assert [shipping.dropped_of(database, file, Cursor(seq)) for seq in (0, 2, 3, 4, 5, 8)] == [0, 2, 3, 3, 3, 3]
        [cursor] = shipping.look(database, {"twin": Place("node", "0")}, []).values()
        Shipping(database).ship("twin", cursor, [rows_of[3]])
        assert [shipping.dropped_of(database, file, Cursor(seq)) for seq in (0, 2, 3, 4, 5, 8)] == [0, 2, 3, 3, 5, 6]


def test_a_text_that_postgresql_cannot_hold_is_shipped_without_what_it_cannot(
    tmp_path: Path, database: Database
) -> None:
    """No text of PostgreSQL holds NUL: its symbol stands there."""
    path = put(
        tmp_path,
        sample("a"),
        sample("b", finish_reason="ST\0P", attempts=[{"upstream": "g\0"}], service_tier="t" * 5_000),
        sample("c"),
    )
    ship_all(database, path)
    found = rows(database, "SELECT finish_reason, attempts, length(service_tier) FROM usage_records ORDER BY seq")
    assert found[1] == ("ST␀P", '[{"upstream":"g\\u0000"}]', 200)
    assert len(found) == 3
    assert_sums_are_those_of_the_records(database)


def test_what_postgresql_refuses_holds_up_nothing_and_is_kept_whole(
    tmp_path: Path, database: Database, small_pages: None
) -> None:
    chance = random.Random(1)
    huge = "".join(chr(chance.randrange(0x4E00, 0x9000)) for _ in range(9_000))
    path = put(tmp_path, *calls(range(9)), sample("bad", request_id=huge, hint="a\0b"), *calls(range(10, 19)))
    assert ship_all(database, path).seq == 19
    assert [row[1] for row in records_in(database)] == [*range(1, 10), *range(11, 20)]
    [(seq, record_id, why, record)] = rows(database, "SELECT seq, record_id, why, record FROM refused_records")
    assert (seq, record_id) == (10, "bad")
    assert "index" in why
    kept = json.loads(record)
    [written] = [row for row in records_of(path) if row[1] == 10]
    assert tuple(kept[name] for name in COLUMNS) == written[2:]
    assert_sums_are_those_of_the_records(database)


def test_a_cursor_that_was_moved_by_another_inserts_nothing(tmp_path: Path, database: Database) -> None:
    path = put(tmp_path, *calls(range(4)))
    with reading(path) as connection:
        file_id = file_id_of(connection)
        page = shipping.read_page(connection, file_id, 0)
    shipping.look(database, {file_id: Place("node", "0")}, [])
    assert Shipping(database).ship(file_id, Cursor(), page[:2]) == Cursor(2, "call-000001")
    for stale in (Cursor(), Cursor(2, "another"), Cursor(3, "call-000002")):
        with pytest.raises(Moved):
            Shipping(database).ship(file_id, stale, page[2:])
    assert len(records_in(database)) == 2


def test_a_file_that_does_not_go_on_where_it_was_shipped_through_is_known(tmp_path: Path) -> None:
    path = put(tmp_path, *calls(range(5)))
    with reading(path) as connection:
        assert shipping.lack(connection, Cursor(), DAY_OF) is None
        assert shipping.lack(connection, Cursor(3, "call-000002"), DAY_OF) is None
        assert shipping.lack(connection, Cursor(3), DAY_OF) is None
        assert shipping.lack(connection, Cursor(3, "another"), DAY_OF) == Lack(0, 0)
        assert shipping.lack(connection, Cursor(6, "call-000005"), DAY_OF) == Lack(0, 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE file SET removed_through = 3, removed_before = {NOON + 120_000_001}")
        connection.execute("DELETE FROM usage_records WHERE seq <= 3")
    with reading(path) as connection:
        assert shipping.lack(connection, Cursor(3, "call-000002"), DAY_OF) is None
        assert shipping.lack(connection, Cursor(1, "call-000000"), DAY_OF) == Lack(3, 2, NOON + 120_000_001)
        unshipped = shipping.lack(connection, Cursor(), DAY_OF)
        assert unshipped is not None
        assert (unshipped.through, unshipped.missing, [row["calls"] for row in unshipped.sums]) == (3, 3, [2, 1])


def test_a_page_ends_where_records_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "PAGE_BYTES", 100_000)
    path = put(tmp_path, *calls(range(6), hint="x" * 40_000))
    with reading(path) as connection:
        assert [row.seq for row in shipping.read_page(connection, "f", 0)] == [1, 2, 3]
        assert [row.seq for row in shipping.read_page(connection, "f", 5)] == [6]


def test_only_a_file_with_a_live_worker_is_seen(database: Database) -> None:
    """By the database's clock, which all nodes share."""
    places = {"a": Place("n1", "0"), "b": Place("n1", "1")}
    assert shipping.look(database, places, ["a"]) == {"a": Cursor(), "b": Cursor()}
    shipping.look(database, {"b": Place("n2", "1")}, [])
    found = rows(
        database,
        "SELECT file_id, node, extract(epoch FROM now()) * 1000000 - seen_at < 60000000 FROM shipped ORDER BY 1",
    )
    assert found == [("a", "n1", True), ("b", "n2", False)]
