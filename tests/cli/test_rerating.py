"""`weighbridge ledger rerate`, as typed, on a ledger that no server has open; with a server: tests/journeys."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.billing import reports
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import UsageRecord
from proxy.cli import options
from proxy.cli.main import app
from proxy.config.schema import Storage
from proxy.store.database import open_database
from proxy.tenants import audit
from tests.billing.sample import NOON, sample
from tests.billing.test_retention import remove
from tests.cli.conftest import Weighbridge

DEARER = '[[prices]]\nmodel = "gemini-2.5-flash-image"\noutput_image = 40\n'
SINCE = ("--since", "2026-11-01")


@pytest.fixture(autouse=True)
def _ledger(weighbridge: Weighbridge, tmp_path: Path) -> None:
    """Two calls at the book's price, one of another project, two of models that have none."""
    unpriced = {"cost_usd": None, "rates": {"input_text": (7, None)}}

    async def fill() -> None:
        data_dir = tmp_path / "weighbridge-data"
        ledger = Ledger.open(data_dir, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
        for record in (
            sample("a"),
            sample("b"),
            sample("c", project="bobs"),
            sample("d", model="gemini-5-neon", model_asked="gemini-5-neon", **unpriced),
            sample("e", model="gemini-5-xenon", model_asked="gemini-5-xenon", usage=None, cost_usd=None, rates={}),
        ):
            await ledger.write(record)
        await ledger.close()

    asyncio.run(fill())
    (tmp_path / "weighbridge.toml").write_text(DEARER)


def adjustments(tmp_path: Path) -> list[UsageRecord]:
    files = ledger_files(tmp_path / "weighbridge-data")
    return [record for record in reports.export(files) if record.kind == "adjustment"]


def test_totals_are_shown_first_and_what_is_agreed_to_is_written_once(weighbridge: Weighbridge, tmp_path: Path) -> None:
    answered = CliRunner().invoke(app, ["ledger", "rerate", *SINCE], input="y\n")
    assert answered.exit_code == 0, answered.output
    lines = [" ".join(line.split()) for line in answered.stdout.splitlines()]
    assert lines[0] == "5 calls, priced by price book 2026-11-21: 3 cost otherwise now."
    assert "acme gemini-2.5-flash-image configuration 2 0 0.0224" in lines
    assert "bobs gemini-2.5-flash-image configuration 1 0 0.0112" in lines
    assert "total 3 0.0336" in lines
    assert "still unpriced: gemini-5-neon, 1 calls" in lines
    assert lines[-1] == "Write these adjustments? [y/N]: y" or "3 adjustments written" in lines[-1]
    assert [each.cost_usd for each in adjustments(tmp_path)] == [11_200_000] * 3

    again = weighbridge("ledger", "rerate", *SINCE, "--yes")
    assert "0 cost otherwise now" in again.stdout
    assert "Nothing was written." in again.stdout
    assert len(adjustments(tmp_path)) == 3


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--dry-run", "--yes"), ("--json",)])
def test_unless_it_is_agreed_to_nothing_is_written(
    weighbridge: Weighbridge, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert weighbridge("ledger", "rerate", *SINCE, *arguments).exit_code == 0
    assert adjustments(tmp_path) == []


def test_programs_get_the_totals_and_what_was_written(weighbridge: Weighbridge) -> None:
    told = json.loads(weighbridge("ledger", "rerate", *SINCE, "--project", "acme", "--yes", "--json").stdout)
    assert (told["calls"], told["records"], told["cost_usd"]) == (4, 2, "0.0224")
    assert told["rows"] == [
        {
            "project": "acme",
            "model": "gemini-2.5-flash-image",
            "price_source": "configuration",
            "records": 2,
            "unpriced_before": 0,
            "cost_usd": "0.0224",
        }
    ]
    assert told["unpriced"] == {"gemini-5-neon": 1, "gemini-5-xenon": 1}
    assert told["written"] == {"adjustments": 2, "cost_usd": "0.0224"}


def test_calls_without_a_price_get_one_or_are_told_by_name(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "weighbridge.toml").write_text(
        '[[prices]]\nmodel = "gemini-5-*"\ninput_text = 1\noutput_text = 2\noutput_image = 30\n'
    )
    told = json.loads(weighbridge("ledger", "rerate", *SINCE, "--yes", "--json").stdout)
    assert (told["rows"][0]["unpriced_before"], told["written"]["cost_usd"]) == (1, "0.033607")
    assert told["unknown"] == {"gemini-5-xenon": 1}
    assert told["unpriced"] == {}


def test_it_leaves_an_audit_event_for_each_project(weighbridge: Weighbridge, tmp_path: Path) -> None:
    weighbridge("ledger", "rerate", *SINCE, "--yes")
    events = audit.list_events(open_database(Storage(data_dir=tmp_path / "weighbridge-data")), limit=9)
    assert {(event.action, event.project, event.actor) for event in events} == {
        ("ledger.rerate", "acme", options.actor()),
        ("ledger.rerate", "bobs", options.actor()),
    }
    assert {event.changes["cost_usd"]["after"] for event in events} == {"0.0224", "0.0112"}


def test_what_was_adjusted_by_hand_is_told(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "acme")
    weighbridge("usage", "adjust", "acme", "-0.05", "--why", "torn", "--of", "a")
    dry = weighbridge("ledger", "rerate", *SINCE, "--dry-run")
    assert "1 of these calls were adjusted by hand, by -0.05 USD in all" in dry.stdout


def test_the_report_has_them_among_the_adjustments(weighbridge: Weighbridge) -> None:
    weighbridge("ledger", "rerate", *SINCE, "--yes")
    assert "0.0336 USD of it are adjustments" in weighbridge("usage", "report").stdout


@pytest.mark.parametrize("arguments", [("--since", "yesterday"), (*SINCE, "--until", "never")])
def test_a_mistake_is_one_sentence(weighbridge: Weighbridge, arguments: tuple[str, ...]) -> None:
    refused = weighbridge("ledger", "rerate", *arguments)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)


def test_calls_whose_records_were_removed_keep_their_price_and_that_is_said(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    remove(tmp_path / "weighbridge-data", NOON + 10_000_000, most=1)
    result = weighbridge("ledger", "rerate", *SINCE, "--dry-run")
    assert "Records of calls from before 2026-11-21T12:00Z were removed" in result.stdout
    told = json.loads(weighbridge("ledger", "rerate", *SINCE, "--dry-run", "--json").stdout)
    assert (told["records"], told["records_since"]) == (0, "2026-11-21T12:00:00.000001Z")
