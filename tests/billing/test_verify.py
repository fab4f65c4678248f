"""A ledger file that is well, and every way in which it may not be."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.billing import ledger_schema as schema
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import to_row
from proxy.billing.verify import Finding, Summary, Verifier
from tests.billing.sample import NOON, lease, sample
from tests.billing.test_reports import at_random, written

pytestmark = pytest.mark.anyio

BARE = {"usage": None}
"""The sample's usage has no total, which its count has."""


def verified(path: Path) -> tuple[Summary, list[Finding]]:
    verifier = Verifier(path)
    findings = list(verifier)
    return verifier.summary, findings


def tampered(path: Path, *statements: str) -> list[Finding]:
    """What is found after these statements, for which no trigger stood in the way."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)
    return verified(path)[1]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return (await written(tmp_path, *(sample(f"{number}", **BARE) for number in range(5))))[0]


async def test_a_ledger_that_is_well_has_no_findings(path: Path) -> None:
    summary, findings = verified(path)
    assert findings == []
    assert summary[2:] == (5, 1, 5, 0, 0, 0)


async def test_any_history_leaves_a_ledger_that_is_well(tmp_path: Path) -> None:
    """Also records that were written twice, of which the second leaves no gap."""
    chance = random.Random(3)
    records = [at_random(number, chance) for number in range(1_200)]
    for record in records:
        record.usage, record.rates = None, {"output_text": (record.cost_usd or 0, 1_000_000)}
        if record.outcome == "upstream_error":
            record.cost_usd = 0 if record.kind == "call" else record.cost_usd
            record.rates = {}
    [path] = await written(tmp_path, *records, *records[:50])
    await written(tmp_path, sample("late", **BARE), records[7])
    summary, findings = verified(path)
    assert findings == []
    assert (summary.records, summary.last_seq) == (1_201, 1_201)


async def test_it_is_read_while_a_server_writes(tmp_path: Path) -> None:
    """Records and leases come in between its pages: what is added meanwhile counts on both sides, or on none."""
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
    await asyncio.gather(*(ledger.write(sample(f"{number}", **BARE)) for number in range(1_100)))
    verifying = asyncio.get_running_loop().run_in_executor(None, verified, ledger_files(tmp_path)[0])
    number = 1_100
    while not verifying.done():
        await ledger.open_lease(lease(f"{number}"))
        await ledger.write(sample(f"{number}", **BARE))
        number += 1
    assert (await verifying)[1] == []
    await ledger.close()


async def test_leases_are_counted_and_one_whose_record_stands_is_told(path: Path, tmp_path: Path) -> None:
    open_lease = "INSERT INTO leases SELECT record_id, started_at, x'7b7d' FROM usage_records WHERE record_id = '3'"
    findings = tampered(path, open_lease)
    assert [(finding.check, finding.record_id) for finding in findings] == [("lease", "3"), ("lease", "3")]
    assert "still open" in findings[0].says
    assert "can't be read" in findings[1].says
    assert verified(path)[0].open_leases == 1


async def test_a_lease_that_is_another_calls_is_told(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
    await ledger.open_lease(lease("a"))
    [path] = ledger_files(tmp_path)
    assert verified(path)[1] == []
    await ledger.close()
    [finding] = tampered(path, "UPDATE leases SET opened_at = 1")
    assert (finding.check, finding.record_id) == ("lease", "a")


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("seq = 1", "record 1 is missing before this one, which is 2"),
        ("seq IN (2, 3)", "records 2 to 3 are missing before this one, which is 4"),
        ("seq = 5", "the last records are missing: 5 were written, the last there is 4"),
    ],
)
async def test_a_gap_in_the_sequence_is_told_and_that_the_sums_know_of_it(path: Path, gone: str, says: str) -> None:
    findings = tampered(path, f"DELETE FROM usage_records WHERE {gone}")
    assert (findings[0].check, findings[0].says) == ("sequence", says)
    assert [finding.check for finding in findings[1:]] == ["hourly"]


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        ("cost_usd = cost_usd + 1", ["cost", "hourly"]),
        ("usage = '{\"promptTokenCount\": 8}'", ["usage"] * 5),
        ("rates = '{\"input_text\": [7]}'", ["record"]),
        ("outcome = 'lost'", ["record", "hourly", "hourly"]),
        ("project = 'zeta'", ["hourly", "hourly"]),
    ],
)
async def test_a_record_that_was_changed_is_told_by_its_id(path: Path, change: str, checks: list[str]) -> None:
    findings = tampered(path, f"UPDATE usage_records SET {change} WHERE record_id = '2'")
    assert [finding.check for finding in findings] == checks
    assert {finding.record_id for finding in findings if finding.check != "hourly"} <= {"2"}


async def test_sums_that_are_not_those_of_the_records_are_told_by_hour_and_by_how_much(path: Path) -> None:
    [finding] = tampered(path, "UPDATE usage_hourly SET cost_usd = cost_usd + 1, images = 4")
    assert "the hour from 2026-11-21T12:00Z (project 'acme'" in finding.says
    assert "images 4 and not 5; cost_usd 0.168010501 and not 0.1680105" in finding.says
    [finding] = tampered(path, "DELETE FROM usage_hourly")
    assert "calls 0 and not 5" in finding.says


async def test_a_missing_trigger_and_a_strange_file_id_are_told(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER usage_records_no_delete")
        connection.execute("UPDATE file SET file_id = 'mine'")
    assert [finding.check for finding in verified(path)[1]] == ["file", "file"]


async def test_a_damaged_page_is_told_and_a_file_that_was_cut_can_not_be_read(tmp_path: Path) -> None:
    [path] = await written(tmp_path, *(sample(f"{number}", **BARE) for number in range(300)))
    data = bytearray(path.read_bytes())
    data[4096 * 4 : 4096 * 5] = bytes(4096)
    path.write_bytes(data)
    assert "damage" in {finding.check for finding in verified(path)[1]}
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(LedgerUnusable, match="malformed"):
        verified(path)


async def test_a_newer_file_and_one_that_is_none_are_refused(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE file SET schema_version = 99")
    with pytest.raises(LedgerUnusable, match="newer version"):
        verified(path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(LedgerUnusable, match="no ledger file"):
        verified(tmp_path / "other.db")


async def test_it_writes_nothing(path: Path) -> None:
    before = path.read_bytes()
    verified(path)
    assert path.read_bytes() == before


def test_the_sums_are_added_up_as_the_trigger_does() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.bring_up_to_date(connection, "0" * 32)
        chance = random.Random(9)
        for number in range(200):
            connection.execute(schema.INSERT_RECORD, to_row(at_random(number, chance)))
        kept = connection.execute("SELECT * FROM usage_hourly").fetchall()
        connection.execute("DELETE FROM usage_hourly")
        for after in (0, 100):
            rows = connection.execute(schema.HOURS_OF_RECORDS, (after, after + 100)).fetchall()
            connection.executemany(schema.ADD_TO_HOUR, rows)
        assert connection.execute("SELECT * FROM usage_hourly").fetchall() == kept
