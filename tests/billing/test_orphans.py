"""Files of slots that nobody writes any more: their open calls are written down; what can't be read harms nobody."""

from __future__ import annotations

from pathlib import Path

from proxy.billing.ledger_reading import ledger_files, reading
from proxy.billing.orphans import close_out_orphans, orphans
from proxy.billing.sources import Sources
from tests.billing.sample import NOON, sample
from tests.billing.shipped import calls, put


def test_the_open_calls_of_a_freed_slot_are_unsettled(tmp_path: Path) -> None:
    put(tmp_path, *calls(range(3)))
    freed = put(tmp_path, *calls(range(3, 5)), leases=[sample("lease-1", outcome="unsettled")], slot="3")
    ballast = freed.with_suffix(".ballast")
    ballast.write_bytes(b"x")
    closed = close_out_orphans(tmp_path, {"0"}, NOON)
    with reading(freed) as connection:
        assert closed == {freed: connection.execute("SELECT file_id FROM file").fetchone()[0]}
        last = connection.execute("SELECT record_id, outcome, finished_at FROM usage_records ORDER BY seq DESC")
        assert last.fetchone() == ("lease-1", "unsettled", NOON)
        assert connection.execute("SELECT count(*) FROM leases").fetchone() == (0,)
    assert not ballast.exists(), "nobody writes the file any more"
    assert len(Sources(tmp_path).files()) == len(ledger_files(tmp_path)) == 2, "it is read as before"


def test_the_file_of_a_slot_in_use_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, leases=[sample("lease-1")])
    assert close_out_orphans(tmp_path, {"0", "control"}, NOON) == {}
    assert orphans(tmp_path, {"0"}) == []


def test_one_that_cannot_be_read_is_told_and_the_others_are_closed_out(tmp_path: Path) -> None:
    freed = put(tmp_path, leases=[sample("lease-1")], slot="1")
    (tmp_path / "ledger" / "2.db").write_bytes(b"no database" * 1000)
    assert list(close_out_orphans(tmp_path, {"0"}, NOON)) == [freed]
