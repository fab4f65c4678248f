"""`weighbridge usage`, as typed, on a ledger that a server has open."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.billing.ledger import Ledger
from proxy.billing.records import COLUMNS, UsageRecord
from proxy.cli import options
from proxy.config.schema import Storage
from proxy.store.database import open_database
from proxy.tenants import audit
from tests.billing.test_retention import remove
from tests.cli.conftest import Weighbridge

NOVEMBER = int(datetime(2026, 11, 1, 9, 20, tzinfo=UTC).timestamp()) * 1_000_000
"""In Los Angeles it is the 1st, too; in Honolulu still October."""
HOUR = 3_600_000_000


def record(number: int, project: str, started_at: int, cost: int | None, *, estimated: bool = False) -> UsageRecord:
    return UsageRecord(
        record_id=f"r{number}",
        request_id=f"q{number}",
        started_at=started_at,
        finished_at=started_at + 1,
        project=project,
        key_id=f"key_{project}",
        key_name="notebook",
        upstream="google",
        operation="generateContent",
        model="gemini-nano-banana-2.1",
        model_asked="gemini-nano-banana-2.1",
        period="2026-11",
        outcome="ok",
        prompt_token_count=1000,
        total_token_count=2120,
        images=1,
        cost_usd=cost,
        estimated=estimated,
    )


async def write(data_dir: Path, records: list[UsageRecord]) -> Ledger:
    ledger = Ledger.open(data_dir, now_us=lambda: NOVEMBER, on_broken=print, ballast_bytes=4096)
    for each in records:
        await ledger.write(each)
    return ledger


@pytest.fixture(autouse=True)
def _ledger(weighbridge: Weighbridge, tmp_path: Path) -> None:
    """Three calls of alice, one of them an estimate, and one of bob without a price."""
    records = [
        record(1, "alice", NOVEMBER, 33_600_000),
        record(2, "alice", NOVEMBER + HOUR, 33_600_001, estimated=True),
        record(3, "alice", NOVEMBER + 24 * HOUR, 1),
        record(4, "bob", NOVEMBER, None),
    ]

    async def fill() -> None:
        ledger = await write(tmp_path / "weighbridge-data", records)
        await ledger.close()

    asyncio.run(fill())


def test_the_bill_is_summed_by_what_is_asked_for(weighbridge: Weighbridge) -> None:
    result = weighbridge("usage", "report", "--by", "project")
    assert result.exit_code == 0
    heads, alice, bob, total, *notes = (line.split() for line in result.stdout.splitlines())
    assert heads[:8] == ["PROJECT", "CALLS", "PROMPT", "CACHED", "OUTPUT", "IMAGES", "SEARCHES", "USD"]
    assert heads[8:] == ["ESTIMATED", "UNPRICED"]
    assert alice == ["alice", "3", "3,000", "0", "3,360", "3", "0", "0.067200002", "0.033600001", "0"]
    assert bob == ["bob", "1", "1,000", "0", "1,120", "1", "0", "0", "0", "1"]
    assert total == ["total", "4", "4,000", "0", "4,480", "4", "0", "0.067200002", "0.033600001", "1"]
    assert any(note[:6] == ["1", "of", "these", "calls,", "0.033600001", "USD,"] for note in notes)
    assert any("without a price" in " ".join(note) for note in notes)
    assert ["unpriced:", "model", "gemini-nano-banana-2.1,", "1", "calls"] in notes


def test_the_bill_for_spreadsheets_has_a_head_and_no_total(weighbridge: Weighbridge) -> None:
    head, alice, bob = csv.reader(io.StringIO(weighbridge("usage", "report", "--by", "project,tier", "--csv").stdout))
    row = dict(zip(head, alice, strict=True))
    assert (row["project"], row["tier"], row["calls"], row["estimated_cost_usd"]) == ("alice", "", "3", "0.033600001")
    assert bob[0] == "bob"
    assert weighbridge("usage", "report", "--csv", "--json").exit_code == 1


def test_the_bill_for_programs_is_exact(weighbridge: Weighbridge) -> None:
    told = json.loads(weighbridge("usage", "report", "--by", "project,model", "--json").stdout)
    assert [(row["project"], row["model"], row["cost_usd"]) for row in told["rows"]] == [
        ("alice", "gemini-nano-banana-2.1", "0.067200002"),
        ("bob", "gemini-nano-banana-2.1", "0"),
    ]
    assert told["total"]["calls"] == 4
    assert told["total"]["estimated_cost_usd"] == "0.033600001"
    assert told["total"]["unpriced_calls"] == 1
    assert told["unpriced"] == {"gemini-nano-banana-2.1": 1}


def test_days_are_those_of_the_configured_time_zone(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def days() -> list[str]:
        return [
            row["day"] for row in json.loads(weighbridge("usage", "report", "--by", "day", "--json").stdout)["rows"]
        ]

    assert days() == ["2026-11-01", "2026-11-02"]
    monkeypatch.setenv("WEIGHBRIDGE_LIMITS__TIMEZONE", "Pacific/Honolulu")
    assert days() == ["2026-10-31", "2026-11-01"]


def test_a_period_is_from_its_first_day_to_before_its_last(weighbridge: Weighbridge) -> None:
    def calls(*options: str) -> int:
        return int(json.loads(weighbridge("usage", "report", "--json", *options).stdout)["total"]["calls"])

    assert calls("--since", "2026-11-01", "--until", "2026-11-02") == 3
    assert calls("--since", "2026-11-02") == 1
    assert calls("--until", "2026-11-01T10:00Z") == 2
    assert calls("--until", "2026-11-01") == 0


def test_keys_are_told_by_name_as_well(weighbridge: Weighbridge, tmp_path: Path) -> None:
    weighbridge("project", "create", "carol")
    key = json.loads(weighbridge("key", "create", "carol", "--name", "laptop", "--json").stdout)

    async def call() -> None:
        carols = record(9, "carol", NOVEMBER, 5)
        carols.key_id = key["id"]
        ledger = await write(tmp_path / "weighbridge-data", [carols])
        await ledger.close()

    asyncio.run(call())
    stdout = weighbridge("usage", "report", "--by", "key").stdout
    assert f"{key['id']} (laptop)" in stdout
    assert "key_alice " in stdout


def test_a_ledger_is_read_while_a_server_has_it_open(weighbridge: Weighbridge, tmp_path: Path) -> None:
    async def serve_and_report() -> str:
        ledger = await write(tmp_path / "weighbridge-data", [record(5, "dora", NOVEMBER, 7)])
        try:
            return (await asyncio.to_thread(weighbridge, "usage", "report", "--by", "project")).stdout
        finally:
            await ledger.close()

    assert "dora" in asyncio.run(serve_and_report())


def test_records_are_exported_a_line_each(weighbridge: Weighbridge) -> None:
    lines = [json.loads(line) for line in weighbridge("usage", "export").stdout.splitlines()]
    assert [line["record_id"] for line in lines] == ["r1", "r2", "r3", "r4"]
    assert list(lines[0]) == list(COLUMNS)
    assert lines[0]["cost_usd"] == "0.0336"
    assert lines[0]["started_at"].startswith("2026-11-01T")
    assert lines[3]["cost_usd"] is None


def test_records_are_exported_as_csv_with_a_head(weighbridge: Weighbridge) -> None:
    stdout = weighbridge("usage", "export", "--format", "csv", "--since", "2026-11-02").stdout
    head, only = csv.reader(io.StringIO(stdout))
    assert head == list(COLUMNS)
    assert dict(zip(head, only, strict=True))["record_id"] == "r3"


def test_an_export_goes_on_behind_the_cursor_that_the_last_one_told(weighbridge: Weighbridge, tmp_path: Path) -> None:
    told = weighbridge("usage", "export").stderr
    assert told.startswith("next: ")
    assert weighbridge("usage", "export", "--after", told.removeprefix("next: ").strip()).stdout == ""

    lines = [weighbridge("usage", "export", "--cursor-file", "cursor").stdout.count("\n") for _ in range(2)]
    assert lines == [4, 0]
    assert f"next: {(tmp_path / 'cursor').read_text()}" == told
    mistake = weighbridge("usage", "export", "--after", "yesterday")
    assert (mistake.exit_code, mistake.stdout, "no cursor" in mistake.stderr) == (1, "", True)


def test_records_are_exported_as_rows_of_focus(weighbridge: Weighbridge) -> None:
    rows = list(csv.DictReader(io.StringIO(weighbridge("usage", "export", "--format", "focus").stdout)))
    assert [(row["x_RecordId"], row["BilledCost"]) for row in rows[:2]] == [("r1", "0.0336"), ("r2", "0.033600001")]


def test_an_empty_ledger_says_so(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_STORAGE__DATA_DIR", "empty")
    assert weighbridge("usage", "report").stdout == "No such calls in the ledger of empty.\n"
    assert json.loads(weighbridge("usage", "report", "--json").stdout)["rows"] == []
    assert weighbridge("usage", "export").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("report", "--by", "project,colour"), "colour"),
        (("report", "--since", "yesterday"), "'yesterday' is no time: write 2026-11-01"),
        (("export", "--until", "2026-13-01"), "'2026-13-01' is no time"),
        (("report", "--since", "2026-11-02", "--until", "2026-11-01"), "give --until a later time than --since"),
        (("export", "--since", "2026-11-02", "--until", "2026-11-02"), "give --until a later time than --since"),
    ],
)
def test_a_mistake_is_one_sentence_on_standard_error_and_ends_with_1(
    weighbridge: Weighbridge, arguments: tuple[str, ...], sentence: str
) -> None:
    result = weighbridge("usage", *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert sentence in result.stderr


def test_an_adjustment_is_on_the_bill_and_told_apart(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    result = weighbridge("usage", "adjust", "alice", "-0.05", "--why", "the picture was torn", "--of", "r1")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("-0.05 USD on the bill of alice, as adj_")

    lines = weighbridge("usage", "report", "--by", "project").stdout.splitlines()
    assert lines[1].split()[:8] == ["alice", "3", "3,000", "0", "3,360", "3", "0", "0.017200002"]
    assert lines[1].split()[8:] == ["0.033600001", "-0.05", "0"]
    assert "-0.05 USD of it are adjustments, made by hand" in " ".join(lines)
    told = json.loads(weighbridge("usage", "report", "--json").stdout)["total"]
    assert (told["calls"], told["cost_usd"], told["adjustments_cost_usd"]) == (4, "0.017200002", "-0.05")
    exported = json.loads(weighbridge("usage", "export").stdout.splitlines()[-1])
    assert (exported["kind"], exported["caused_by"], exported["hint"]) == ("adjustment", "r1", "the picture was torn")


def test_what_is_left_of_a_credit_is_in_the_report(weighbridge: Weighbridge) -> None:
    """Of all that was ever spent, whatever period is reported."""
    weighbridge("project", "create", "alice")
    assert json.loads(weighbridge("usage", "report", "--json").stdout)["prepaid"] == []
    weighbridge("project", "credit", "alice", "1")
    told = weighbridge("project", "credit", "alice", "0.5").stdout
    assert told.startswith("Project alice may spend 1.5 USD in all.")
    lines = weighbridge("usage", "report", "--since", "2026-11-02").stdout.splitlines()
    assert lines[-2].split() == ["PREPAID", "CREDIT", "USD", "SPENT", "EVER", "LEFT"]
    assert lines[-1].split() == ["alice", "1.5", "0.067200002", "1.432799998"]


def test_an_adjustment_of_no_call_stands_in_a_row_of_its_own(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    weighbridge("usage", "adjust", "alice", "12.5", "--why", "storage")

    rows = [line.split() for line in weighbridge("usage", "report", "--by", "key,model").stdout.splitlines()]
    assert ["-", "-", "0", "0", "0", "0", "0", "0", "12.5", "0", "12.5", "0"] in rows


def test_an_adjustment_given_twice_by_its_id_counts_once(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "alice")
    twice = [
        weighbridge("usage", "adjust", "alice", "1", "--why", "x", "--id", "adj_7", "--json").stdout for _ in range(2)
    ]
    other = weighbridge("usage", "adjust", "alice", "2", "--why", "x", "--id", "adj_7")

    assert json.loads(twice[0]) == json.loads(twice[1])
    assert (other.exit_code, other.stderr.count("\n")) == (1, 1)
    assert "another adjustment adj_7" in other.stderr
    assert weighbridge("usage", "export").stdout.count("adj_7") == 1


def test_an_adjustment_leaves_its_audit_event(weighbridge: Weighbridge, tmp_path: Path) -> None:
    weighbridge("project", "create", "alice")
    weighbridge("usage", "adjust", "alice", "1", "--why", "x")
    event = audit.list_events(open_database(Storage(data_dir=tmp_path / "weighbridge-data")), limit=1)[0]

    assert (event.action, event.project, event.actor) == ("adjustment.create", "alice", options.actor())
    assert event.changes["cost_usd"] == {"before": None, "after": "1"}


def test_an_option_that_there_is_not_is_no_amount(weighbridge: Weighbridge) -> None:
    """Options that look like negative amounts are let through, typos aren't."""
    result = weighbridge("usage", "adjust", "alice", "1", "--why", "x", "--off", "r1")

    assert result.exit_code == 2


def test_of_a_ledger_from_which_nothing_was_removed_nothing_is_told(weighbridge: Weighbridge) -> None:
    assert "removed" not in weighbridge("usage", "report").output


def test_what_was_removed_stays_on_the_bill_and_is_told(weighbridge: Weighbridge, tmp_path: Path) -> None:
    before = json.loads(weighbridge("usage", "report", "--by", "project,day", "--json").stdout)
    cursor = weighbridge("usage", "export").stderr.split()[-1]
    remove(tmp_path / "weighbridge-data", NOVEMBER + 2 * HOUR)
    told = "Records of calls from before 2026-11-01T10:20Z were removed (storage.retention_days)"

    after = json.loads(weighbridge("usage", "report", "--by", "project,day", "--json").stdout)
    assert after == before | {"records_since": "2026-11-01T10:20:00.000001Z"}
    assert told in weighbridge("usage", "report").stdout
    assert told not in weighbridge("usage", "report", "--since", "2026-11-02").stdout
    late = weighbridge("usage", "export")
    assert [json.loads(line)["record_id"] for line in late.stdout.splitlines()] == ["r3", "r4"]
    assert f"{told} from weighbridge-data/ledger/0.db, up to number 2." in late.stderr
    for nothing_missed in (("--since", "2026-11-02"), ("--after", cursor)):
        assert "removed" not in weighbridge("usage", "export", *nothing_missed).stderr
