"""What may be an adjustment, and how one is written where no server runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import adjustments, reports
from proxy.billing.adjustments import AdjustmentConflict, AdjustmentRefused, make
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerLocked, LedgerUnusable
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.ledger_slot import take_lock
from proxy.billing.records import UsageRecord, from_usd, to_usd
from tests.billing.sample import NOON, lease


def adjustment(**changes: Any) -> UsageRecord:
    values = {"record_id": "adj_1", "project": "acme", "cost_usd": "-1.50", "why": "torn", "of": None}
    return make([], **values | changes, now_us=NOON, period="2026-11-21")


@given(st.integers(-(10**15), 10**15).filter(bool))
def test_every_amount_to_a_million_comes_out_as_it_went_in(nano: int) -> None:
    assert adjustment(cost_usd=to_usd(nano)).cost_usd == nano
    assert from_usd(to_usd(nano)) == nano


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".5", "5.", "+1", "1,5", "1_000", "1e3", "1E3", "NaN", "inf", " 1", "1 ", "1\n", "$1", "--1", "0x1"),
        *("0.0000000001", "1000000000000", "\u0661", "1.\uff15"),
    ],
)
def test_an_amount_is_a_plain_decimal_number_of_nine_places_or_none(text: str) -> None:
    with pytest.raises(AdjustmentRefused, match="plain decimal number") as caught:
        adjustment(cost_usd=text)
    assert caught.value.field == "cost_usd"


@pytest.mark.parametrize("text", ["0", "-0", "0.000", "1000000.000000001", "-1000001"])
def test_an_amount_of_nothing_or_of_too_much_is_refused(text: str) -> None:
    with pytest.raises(AdjustmentRefused, match="at most 1,000,000 USD"):
        adjustment(cost_usd=text)


@pytest.mark.parametrize("bad", ["1", "adj_", "ADJ_1", "adj_a b", "adj_" + "x" * 61, "adj_ä", "01a1ff00-a-calls-id"])
def test_an_id_that_a_call_could_have_is_refused(bad: str) -> None:
    with pytest.raises(AdjustmentRefused, match="adj_ and 1 to 60") as caught:
        adjustment(record_id=bad)
    assert caught.value.field == "record_id"


@pytest.mark.parametrize("bad", ["", " ", "a\nb", "a\x1b[31m", "x" * 501])
def test_a_reason_is_one_line_that_can_be_printed(bad: str) -> None:
    with pytest.raises(AdjustmentRefused, match="in one line") as caught:
        adjustment(why=bad)
    assert caught.value.field == "why"


def test_a_reason_with_a_key_in_it_is_refused_and_not_repeated() -> None:
    key = "wb_" + "A" * 38
    with pytest.raises(AdjustmentRefused, match="without it") as caught:
        adjustment(why=f"{key} was stolen")
    assert caught.value.field == "why"
    assert key not in str(caught.value)


def test_it_is_written_without_a_server_and_a_second_time_counts_once(tmp_path: Path) -> None:
    for _ in range(2):
        adjustments.write_alone(tmp_path, adjustment())
    files = ledger_files(tmp_path)

    assert list(reports.export(files)) == [adjustment()]
    assert adjustments.confirm(files, adjustment()) == (adjustment(), True)
    with pytest.raises(AdjustmentConflict, match="adj_1"):
        adjustments.confirm(files, adjustment(cost_usd="2"))
    with pytest.raises(LedgerUnusable, match="can't be found"):
        adjustments.confirm(files, adjustment(record_id="adj_2"))


def test_it_is_not_written_past_a_server(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    lock = take_lock(tmp_path / "ledger")

    with pytest.raises(LedgerLocked):
        adjustments.write_alone(tmp_path, adjustment())
    os.close(lock)
    assert ledger_files(tmp_path) == []


def test_calls_that_a_dead_server_left_open_are_left_to_the_next_one(tmp_path: Path) -> None:
    async def server(record: UsageRecord | None) -> None:
        ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=pytest.fail, ballast_bytes=4096)
        if record:
            await ledger.open_lease(record)
        await ledger.close()

    asyncio.run(server(lease("a")))
    adjustments.write_alone(tmp_path, adjustment())
    assert [record.record_id for record in reports.export(ledger_files(tmp_path))] == ["adj_1"]
    asyncio.run(server(None))
    assert [record.outcome for record in reports.export(ledger_files(tmp_path))] == ["ok", "unsettled"]
