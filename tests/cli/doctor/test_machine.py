"""Time zone data, files that may be open, and whose the doors' addresses are."""

from __future__ import annotations

import socket
from datetime import date
from pathlib import Path

import pytest

from proxy.billing.ledger_slot import Owner
from proxy.cli.doctor.findings import Verdict
from proxy.cli.doctor.machine import check_doors, check_open_files, check_time_zone
from proxy.config.schema import Server
from tests.scripted import says, scripted

SERVES = Owner("process 4711", None)


@pytest.mark.parametrize(
    ("first_line", "verdict", "told"),
    [
        ("# version 2026a", Verdict.OK, "2026a"),
        ("# version 2024b-dirty", Verdict.OK, "2024b"),
        ("# version 2023c", Verdict.WARNING, "2023c"),
        ("no version", Verdict.OK, "doesn't say"),
    ],
)
def test_old_time_zone_data_is_told(tmp_path: Path, first_line: str, verdict: Verdict, told: str) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Berlin").touch()
    (tmp_path / "tzdata.zi").write_text(f"{first_line}\nR d 1916\n")
    (found,) = check_time_zone("Europe/Berlin", date(2026, 11, 21), ["/nowhere", str(tmp_path)])
    assert (found.verdict, told in found.what) == (verdict, True)


def test_more_calls_at_once_than_files_may_be_open_are_told() -> None:
    (fine,), (found,) = check_open_files(10), check_open_files(1_000_000_000)
    assert (fine.verdict, found.verdict) == (Verdict.OK, Verdict.WARNING)
    assert "2,000,000,100" in found.what


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def verdicts(port: int, owner: Owner | None, host: str = "127.0.0.1") -> list[Verdict]:
    server = Server(host=host, port=port, admin_port=0)
    return [finding.verdict for finding in check_doors(server, lambda: owner)]


def test_free_ports_are_fine_whether_a_server_runs_elsewhere_or_not() -> None:
    assert verdicts(free_port(), None) == [Verdict.OK] * 2
    assert verdicts(free_port(), SERVES) == [Verdict.OK] * 2
    assert verdicts(0, None, "0.0.0.0") == [Verdict.OK] * 2


def test_a_port_is_rightly_held_by_the_server_of_this_folder_alone() -> None:
    healthy = says(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")
    other = says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    with scripted(healthy) as ours, scripted(other) as theirs:
        our_port, their_port = (int(script.base_url.rpartition(":")[2]) for script in (ours, theirs))
        assert verdicts(our_port, SERVES) == [Verdict.OK] * 2
        assert verdicts(our_port, None) == [Verdict.PROBLEM, Verdict.OK]
        assert verdicts(their_port, SERVES) == [Verdict.PROBLEM, Verdict.OK]


def test_an_address_of_another_machine_is_told_with_its_setting() -> None:
    found, _ = check_doors(Server(host="192.0.2.1"), lambda: None)
    assert (found.verdict, found.do) == (Verdict.PROBLEM, "set server.host to an address of this machine")
