"""What may be pruned of a ledger file: what was shipped, known from when the file was opened, and old enough."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy.billing import ledger_writer
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_writer import REMOVED_AT_ONCE
from proxy.billing.shipped_mark import STAY_FOR_MONTHS_US, STAY_US, Mark, mark_of, marked_through, stay_us, write_mark
from tests.billing.sample import NOON
from tests.billing.shipped import calls, hours_of, put, records_of

DAY = 86_400_000_000


def test_a_mark_is_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "0.db"
    assert marked_through(path, "a") == 0
    write_mark(path, "a", 12)
    assert marked_through(path, "a") == 12
    assert marked_through(path, "b") == 0
    mark_of(path).write_text("a twelve")
    assert marked_through(path, "a") == 0


def test_what_was_marked_before_a_file_was_opened_is_not_trusted(tmp_path: Path) -> None:
    """The database may have been restored since, or exchanged."""
    path = tmp_path / "0.db"
    write_mark(path, "a", 12)
    mark = Mark(path, "a")
    assert mark.through() == 0
    write_mark(path, "a", 12)
    assert mark.through() == 12
    write_mark(path, "a", 7)
    assert mark.through() == 7
    mark_of(path).unlink()
    assert mark.through() == 0


@pytest.mark.parametrize(
    ("timezone", "stay"),
    [
        ("UTC", STAY_US),
        ("America/Los_Angeles", STAY_US),
        ("Asia/Kolkata", STAY_FOR_MONTHS_US),
        ("Australia/Lord_Howe", STAY_FOR_MONTHS_US),
    ],
)
def test_records_stay_for_the_first_hour_of_a_month_where_it_begins_at_half_past(timezone: str, stay: int) -> None:
    assert stay_us(timezone) == stay


@pytest.mark.anyio
async def test_a_server_prunes_what_is_shipped_and_old_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "REMOVAL_PAUSE_S", 0.001)
    monkeypatch.setattr(ledger_writer, "LOOK_FOR_OLD_S", 0.001)
    old: dict[str, Any] = {"started_at": NOON - 8 * DAY, "finished_at": NOON - 8 * DAY}
    path = put(tmp_path, *calls(range(2 * REMOVED_AT_ONCE + 10), **old), *calls(range(900, 910)))
    file_id, sums = records_of(path)[0][0], hours_of(path)
    write_mark(path, file_id, 210)

    def seqs() -> list[int]:
        return sorted(row[1] for row in records_of(path))

    ledger = Ledger.open(
        tmp_path,
        now_us=lambda: NOON,
        on_broken=pytest.fail,
        ballast_bytes=0,
        tick_s=0.01,
        retention_us=STAY_US,
        shipped=True,
        random=os.urandom,
    )
    with anyio.fail_after(30):
        await ledger.write(calls([920])[0])
        assert seqs()[0] == 1
        write_mark(path, file_id, 205)
        while seqs()[0] <= 205:
            await anyio.sleep(0.005)
        assert seqs() == [*range(206, 222)]
        write_mark(path, file_id, 215)
        while seqs()[0] <= 210:
            await anyio.sleep(0.005)
        await ledger.write(calls([921])[0])
    await ledger.close()
    assert seqs() == [*range(211, 223)]
    assert len(hours_of(path)) >= len(sums)
