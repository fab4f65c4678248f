"""What the files lie on can't be used for a while: locked, read-only, another user's; and the clock is set.

Each time: what can't be recorded is refused before it costs money, nothing is lost or recorded twice, all goes on by
itself when the fault is over, and limits know then what was used.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from proxy.billing import reports
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import to_row
from proxy.billing.verify import Verifier
from proxy.store.database import open_database
from proxy.tenants import keys
from tests.billing.sample import NOON, sample
from tests.clock import Clock
from tests.disk import SECTOR, Disk
from tests.journeys.limited import Held, limits_told, used, with_limits
from tests.journeys.watching import TEXT, body, locked, until
from tests.proof import WHOLE, Proof, sized
from tests.stand import Weighbridge, weighbridge
from tests.upstreams.origin import serving

REQUEST_ID = "x-weighbridge-request-id"


def call(stand: Weighbridge, key: str) -> httpx2.Response:
    headers = {"x-goog-api-key": key}
    return httpx2.post(f"{stand.base_url}{TEXT}generateContent", json=body("hello"), headers=headers, timeout=60)


def told(answer: httpx2.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("x-weighbridge-refused")


def verified(stand: Weighbridge) -> bool:
    return [list(Verifier(path)) for path in ledger_files(stand.data_dir)] == [[]]


# Locked


async def test_files_that_another_process_has_locked_for_seconds_lose_no_call(tmp_path: Path, proof: Proof) -> None:
    """Both at once: new calls are refused with the reason, the one in flight is answered when the lock is gone, and all
    goes on by itself. Ten seconds and more, where it is run whole."""
    slow, seconds = Held(), sized(4, 15)
    async with serving(slow, seconds=120) as upstream:
        with weighbridge(tmp_path, upstream.url) as stand:
            key = with_limits(stand, "concurrency=5", "rpd=100")
            in_flight = asyncio.get_running_loop().create_task(asyncio.to_thread(call, stand, key))
            await asyncio.to_thread(until, lambda: slow.arrived == 1, "a call in flight")
            with locked(stand.data_dir / "ledger/0.db"), locked(stand.data_dir / "weighbridge.db"):
                slow.release.set()
                let_go = time.monotonic() + seconds
                refused = [await asyncio.to_thread(call, stand, key)]
                while time.monotonic() < let_go:
                    refused.append(await asyncio.to_thread(call, stand, key))
                    await asyncio.sleep(0.05)
                assert {told(answer) for answer in refused} == {(503, "LEDGER_UNAVAILABLE")}
                assert "Another process has the ledger file locked" in refused[0].text
                assert httpx2.get(f"{stand.base_url}/readyz").status_code == 503
                assert not in_flight.done()
            assert (await in_flight).status_code == 200
            await asyncio.to_thread(until, lambda: call(stand, key).status_code == 200, "calls are let in again")
            assert slow.arrived == 2, "a refused call went up"
            assert used(stand) == {"concurrency": 0, "rpd": 2}
            assert await asyncio.to_thread(stand.stop) == 0
            assert [record.outcome for record in stand.records()] == ["ok", "ok"]
            assert verified(stand)
    proof(seconds_locked=seconds, refused=len(refused))


# A disk that can't be written


def test_on_a_disk_that_becomes_read_only_the_server_ends_and_starts_again_once_it_can_be_written(
    upstream: str, watched_disk: Disk, at_end: ExitStack
) -> None:
    """As ext4 makes it after an error. Nothing that was promised is lost; limits know what was used."""
    stand = at_end.enter_context(
        closing(Weighbridge(watched_disk.root, upstream, environment=watched_disk.environment))
    )
    key = with_limits(stand, "rpd=100", "concurrency=5")
    stand.start()
    assert call(stand, key).status_code == 200
    watched_disk.fault("write", "0.db-wal", errno.EROFS, number=0)
    with pytest.raises(httpx2.TransportError):
        call(stand, key)
    assert stand.wait() == 74
    assert "look at the disk before it is started again" in stand.log()
    stand.spawn()
    assert stand.wait() == 1
    assert "0.db can't be opened" in stand.log()
    watched_disk.faultless()
    stand.start()
    assert call(stand, key).status_code == 200
    assert used(stand) == {"concurrency": 0, "rpd": 2}
    assert [record.outcome for record in stand.records()] == ["ok", "ok"]
    assert verified(stand)


def test_where_keys_can_not_be_written_down_the_command_says_so_and_calls_go_on(
    upstream: str, watched_disk: Disk, at_end: ExitStack
) -> None:
    """weighbridge.db alone: full, read-only, or its fsync fails. No key is made, none is lost, and later one can be."""
    stand = at_end.enter_context(
        closing(Weighbridge(watched_disk.root, upstream, environment=watched_disk.environment))
    )
    key = stand.key()
    stand.start()
    for call_, suffix, code in (
        ("write", "weighbridge.db-journal", errno.ENOSPC),
        ("write", "weighbridge.db", errno.EROFS),
        ("sync", "weighbridge.db", errno.EIO),
    ):
        watched_disk.fault(call_, suffix, code, number=0)
        with pytest.raises(subprocess.CalledProcessError) as failed:
            stand.run("key", "create", "alice")
        assert failed.value.returncode == 1
        assert call(stand, key).status_code == 200
        watched_disk.faultless()
    assert len(keys.list_keys(open_database(stand.storage))) == 1
    stand.run("key", "create", "alice")
    assert stand.stop() == 0
    assert len(stand.records()) == 3


# A tail that a power loss spoilt


def test_a_log_that_is_cut_at_any_sector_keeps_each_commit_before_the_cut_and_nothing_of_those_behind(
    tmp_path: Path, proof: Proof
) -> None:
    """A write-ahead log that ends anywhere, in nothing, zeros or noise: what a start makes of it. Run whole, at every
    sector; else at two or three of each page."""
    file = LedgerFile.open(tmp_path / "data", busy_timeout_s=1, ballast_bytes=0, random=os.urandom)
    wal, ends = tmp_path / "data/ledger/0.db-wal", []
    for number in range(sized(3, 12)):
        file.commit([(f"{number}", NOON, json.dumps({}).encode())], [], [])
        leased = wal.stat().st_size
        file.commit([], [to_row(sample(f"{number}"))], [])
        ends.append((leased, wal.stat().st_size))
    shutil.copytree(tmp_path / "data", tmp_path / "left")
    file.close()
    whole, cuts = (tmp_path / "left/ledger/0.db-wal").read_bytes(), 0
    chance = random.Random(5)
    for at in range(0, len(whole) + 1, SECTOR * sized(3, 1)):
        tails = b"", bytes(SECTOR), chance.randbytes(SECTOR)
        for tail in tails if WHOLE else (chance.choice(tails),):
            data = tmp_path / "cut"
            shutil.copytree(tmp_path / "left", data)
            (data / "ledger/0.db-wal").write_bytes(whole[:at] + tail)
            (data / "ledger/0.db-shm").unlink(missing_ok=True)
            opened = LedgerFile.open(data, busy_timeout_s=1, ballast_bytes=0, random=os.urandom)
            found = [record.record_id for record in reports.export(ledger_files(data))]
            assert found == [f"{number}" for number, (_, recorded) in enumerate(ends) if recorded <= at]
            assert [name for name, _ in opened.open_leases()] == [
                f"{number}" for number, (leased, recorded) in enumerate(ends) if leased <= at < recorded
            ]
            opened.close()
            shutil.rmtree(data)
            cuts += 1
    proof(cuts=cuts)


# A clock that is set


def test_a_clock_that_is_set_loses_no_call_and_lets_nobody_over_a_limit(
    upstream: str, tmp_path: Path, wall_clock: Clock, at_end: ExitStack
) -> None:
    """An hour back, forth over midnight, back again, each with a start afterwards: each call is recorded once under the
    time that the clock said, minutes go on, and a day has no more calls than it may."""
    settings = {"limits": {"timezone": "UTC"}}
    stand = at_end.enter_context(closing(Weighbridge(tmp_path, upstream, settings, environment=wall_clock.environment)))
    wall_clock.set(datetime(2026, 11, 21, 23, 30, tzinfo=UTC))
    key = with_limits(stand, "rpm=4", "rpd=8")
    stand.start()
    answered: list[tuple[int, str]] = []

    def calls(*expected: int) -> None:
        for status in expected:
            before = wall_clock.now_us()
            answer = call(stand, key)
            assert answer.status_code == status, answer.text
            if status == 200:
                (record,) = (one for one in stand.records() if one.request_id == answer.headers[REQUEST_ID])
                assert before <= record.started_at <= wall_clock.now_us()
                assert record.duration_ms is not None
                assert 0 <= record.duration_ms < 60_000
                answered.append((status, record.period))

    calls(200, 200)
    wall_clock.step(-3600)
    calls(200)
    wall_clock.step(7200)
    calls(200, 429)  # the minute that counts is the same, whatever the clock says
    wall_clock.step(-3600)
    calls(429)
    assert Counter(period for _, period in answered) == {"2026-11-21": 3, "2026-11-22": 1}
    assert stand.stop() == 0
    wall_clock.step(600)
    stand.start()
    assert used(stand) == {"rpm": 1, "rpd": 3}  # the call of "tomorrow" is taken for the last minute's
    wall_clock.step(3600)
    calls(200)
    assert used(stand)["rpd"] == 2
    wall_clock.step(-3600)
    assert used(stand)["rpd"] == 3
    assert stand.stop() == 0
    records = stand.records()
    assert len(records) == len({record.record_id for record in records}) == len(answered)
    assert verified(stand)


@pytest.mark.parametrize("wrong", ["2000-01-01", "2027-03-01"])
def test_a_clock_that_is_wrong_when_the_server_starts_and_is_put_right_then_lets_nobody_over(
    upstream: str, tmp_path: Path, wall_clock: Clock, at_end: ExitStack, wrong: str
) -> None:
    """As on a machine that asks for the time when it has started: what the day took before it still counts."""
    settings = {"limits": {"timezone": "UTC", "hold": "typical"}}
    stand = at_end.enter_context(closing(Weighbridge(tmp_path, upstream, settings, environment=wall_clock.environment)))
    noon = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    wall_clock.set(noon)
    key = with_limits(stand, "rpd=2", "usd=100,per=day", "usd=100,per=month")
    stand.start()
    assert [call(stand, key).status_code for _ in range(2)] == [200, 200]
    before = limits_told(stand)["limits"]
    assert used(stand)["rpd"] == 2
    assert stand.stop() == 0

    wall_clock.set(datetime.fromisoformat(wrong).replace(tzinfo=UTC))
    stand.start()
    wall_clock.set(noon)
    assert limits_told(stand)["limits"] == before
    assert call(stand, key).status_code == 429


# Another user's


UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Root, but without what lets root into other users' files: it is a user as any other."""
IN_ONE_PROCESS = """
import json, sys
from typer.testing import CliRunner
from proxy.cli.main import app
done = [CliRunner().invoke(app, command, prog_name="weighbridge") for command in json.loads(sys.argv[1])]
print(json.dumps([[each.exit_code, each.stdout, each.stderr] for each in done]))
"""
"""Runs several commands: a process takes a second to begin."""
THEIRS = (
    ("data", "serve"),
    ("data", "usage report"),
    ("data/ledger", "serve"),
    ("data/ledger", "usage export"),
    ("data/ledger/0.db", "serve"),
    ("data/weighbridge.db", "project list"),
)
"""What belongs to somebody else, and a command that can't do without it."""


def test_what_belongs_to_another_user_is_refused_by_name_and_left_as_it_is(
    upstream: str, tmp_path: Path, other_user: int
) -> None:
    """A folder that may not be read is no empty bill. With its own user all goes on."""
    with weighbridge(tmp_path, upstream) as stand:
        key = with_limits(stand, "rpd=100")
        assert call(stand, key).status_code == 200
    commands = []
    for theirs, command in THEIRS:
        copy = Weighbridge(tmp_path / str(len(commands)), upstream)
        shutil.copytree(stand.data_dir, copy.data_dir, ignore=shutil.ignore_patterns("*.ballast"))
        os.chown(copy.folder / theirs, other_user, other_user)
        commands.append(copy._command("proxy", *command.split())[3:])
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", IN_ONE_PROCESS, json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=60,
        env=stand._env(),
        check=True,
    )
    told = json.loads(done.stdout)
    assert len(told) == len(THEIRS)
    for number, (code, output, errors) in enumerate(told):
        assert (code, output) == (1, ""), (THEIRS[number], output, errors)
        assert re.fullmatch(rf"error: {tmp_path}/{number}/data\S*:? .*\n", errors), (THEIRS[number], errors)
        assert re.search("user|own|may you|Permission denied; storage.data_dir", errors), (THEIRS[number], errors)
    stand.start()
    assert call(stand, key).status_code == 200
    assert used(stand)["rpd"] == 2
    assert stand.stop() == 0
    assert len(stand.records()) == 2
