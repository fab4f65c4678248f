"""Thresholds are noted once and told until they are taken, whatever the receiver, the process and the budget do."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from proxy.config.schema import Events as Settings
from proxy.config.schema import Storage
from proxy.control import event_table
from proxy.control.events import Events, delay_s
from proxy.control.thresholds import BudgetUse
from proxy.store.database import Database, StoreError, open_database
from proxy.telemetry.metrics import Metrics
from tests.control.receiving import SECRET, TAKEN, header, receiver, status, thresholds, told

USD = 1_000_000_000
S = 1_000_000
ROOT = Path(__file__).parents[2]


class Stand:
    """Events over a database, with a clock and budgets that a test sets."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.database: Database = open_database(Storage(data_dir=folder))
        self.metrics = Metrics("0", [])
        self.now = 1_795_262_400 * S
        self.uses: Sequence[BudgetUse] = ()
        self.made = 0
        self.restart(url)

    def restart(self, url: str) -> None:
        """Another process, as far as the database can tell."""
        self.events = Events(
            self.database,
            settings(url),
            self._used,
            self.metrics,
            now_us=lambda: self.now,
            new_id=self._new_id,
            looks_every_s=0.01,
        )

    async def _used(self) -> Sequence[BudgetUse]:
        return self.uses

    def _new_id(self) -> str:
        self.made += 1
        return f"{self.made:04}"

    async def use(self, used: float, budget: float = 100, period: str = "2026-11", key_id: str | None = None) -> None:
        self.uses = [BudgetUse("alice", key_id, int(budget * USD), period, int(used * USD))]
        await self.events.look()

    async def later(self, seconds: float) -> None:
        """So much later, what is due is sent."""
        self.now += int(seconds * S)
        await self.events.deliver()

    def undelivered(self) -> int:
        return len(event_table.undelivered(self.database))

    def noted(self) -> list[int]:
        """The thresholds noted, the oldest first."""
        found = event_table.list_events(self.database, limit=99)
        return [json.loads(event.body)["data"]["threshold"] for event in reversed(found)]


def settings(url: str) -> Settings:
    if not url:
        return Settings()
    return Settings(webhook_url=url, webhook_secret_env="X", webhook_secret=SecretStr(SECRET))


async def test_each_threshold_is_told_once_in_its_order_with_what_is_used(tmp_path: Path) -> None:
    with receiver() as script:
        stand = Stand(tmp_path, script.base_url)
        for used in (10, 55, 60, 99, 120, 130):
            await stand.use(used)
            await stand.later(5)
    assert thresholds(script) == [50, 80, 100]
    first = told(script)[0]
    assert first == {
        "id": "evt_0001",
        "type": "budget.threshold",
        "created_at": "2026-11-21T12:00:05.000000Z",
        "data": {"project": "alice", "key_id": None, "period": "2026-11", "threshold": 50}
        | {"model": "*", "shadow": False, "budget_usd": "100", "spent_usd": "55"},
    }
    assert header(script.received[0], "webhook-id") == first["id"]
    assert stand.undelivered() == 0


async def test_what_is_noted_is_not_written_again_at_each_look(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    await stand.use(50)
    Path(str(stand.database)).unlink()
    await stand.use(60)
    with pytest.raises(StoreError):
        await stand.use(80)


async def test_log_and_metric_tell_it_too_without_a_webhook_and_nothing_is_sent_later(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    with capture_logs() as lines:
        await stand.use(85, key_id="key_1")
        await stand.later(5)
    assert [(line["event"], line["threshold"], line["key_id"]) for line in lines] == [
        ("budget_threshold", 50, "key_1"),
        ("budget_threshold", 80, "key_1"),
    ]
    assert b'weighbridge_budget_used_ratio{project="alice"} 0.85' in stand.metrics.exposition()
    stand.uses = ()
    await stand.events.look()
    assert b"weighbridge_budget_used_ratio{" not in stand.metrics.exposition(), "the budget was taken away"
    with receiver() as script:
        stand.events.configure(settings(script.base_url))
        await stand.later(5)
        assert (script.received, stand.noted()) == ([], [50, 80])


async def test_a_receiver_that_fails_is_told_again_with_longer_and_longer_waits_under_one_id(tmp_path: Path) -> None:
    answers = [status(500), status(503), None, TAKEN]
    with receiver(lambda _: answers.pop(0)) as script:
        stand = Stand(tmp_path, script.base_url)
        await stand.use(50)
        with capture_logs() as lines:
            for wait, attempts in ((0, 1), (4.9, 1), (0.2, 2), (9, 2), (1.1, 3), (19, 3), (1.1, 4), (9999, 4)):
                await stand.later(wait)
                assert len(script.received) == attempts
    assert len({request.body for request in script.received}) == 1
    assert {header(request, "webhook-id") for request in script.received} == {"evt_0001"}
    times = [int(header(request, "webhook-timestamp")) for request in script.received]
    assert [later - times[0] for later in times] == [0, 5, 15, 35]
    assert len({header(request, "webhook-signature") for request in script.received}) == 4, "each is of its own time"
    assert [line["event"] for line in lines] == ["event_undelivered"] * 3 + ["event_delivered"]
    assert SECRET not in str(lines)


def test_waits_double_to_an_hour_and_stay_there() -> None:
    assert [delay_s(attempts) for attempts in (1, 2, 3, 10, 11, 12, 10_000)] == [5, 10, 20, 2560, 3600, 3600, 3600]


async def test_it_is_never_given_up_and_each_hour_says_so(tmp_path: Path) -> None:
    with receiver(lambda _: status(500)) as script:
        stand = Stand(tmp_path, script.base_url)
        await stand.use(50)
        with capture_logs() as lines:
            for _ in range(30):
                await stand.later(3601)
    assert len(script.received) == 30
    assert [line["log_level"] for line in lines] == ["warning"] * 10 + ["error"] * 20
    assert {line["again_in_s"] for line in lines[10:]} == {3600}


async def test_the_receivers_retry_after_is_heeded(tmp_path: Path) -> None:
    answers = [status(429, "retry-after: 100"), TAKEN]
    with receiver(lambda _: answers.pop(0)) as script:
        stand = Stand(tmp_path, script.base_url)
        await stand.use(50)
        for wait, attempts in ((0, 1), (99, 1), (1.1, 2)):
            await stand.later(wait)
            assert len(script.received) == attempts


async def test_while_it_fails_later_events_wait_and_keep_their_order(tmp_path: Path) -> None:
    failing = [True]
    with receiver(lambda _: status(502) if failing[0] else TAKEN) as script:
        stand = Stand(tmp_path, script.base_url)
        for used in (50, 80, 100):
            await stand.use(used)
            await stand.later(1)
        assert thresholds(script) == [50]
        failing[0] = False
        await stand.later(10)
    assert thresholds(script) == [50, 50, 80, 100]


async def test_an_event_that_it_alone_refuses_holds_up_no_other(tmp_path: Path) -> None:
    refused = [50]
    with receiver(lambda event: status(422) if event["data"]["threshold"] in refused else TAKEN) as script:
        stand = Stand(tmp_path, script.base_url)
        await stand.use(80)
        await stand.later(0)
        await stand.use(100)
        await stand.later(1)
        assert thresholds(script) == [50, 80, 100]
        refused.clear()
        await stand.later(10)
    assert thresholds(script) == [50, 80, 100, 50]
    assert stand.undelivered() == 0


async def test_a_restart_sends_at_once_what_waits_and_tells_nothing_twice(tmp_path: Path) -> None:
    with receiver(lambda _: None) as lost:
        stand = Stand(tmp_path, lost.base_url)
        await stand.use(85)
        for _ in range(12):
            await stand.later(3601)
        assert set(thresholds(lost)) == {50}
    with receiver() as script:
        stand.restart(script.base_url)
        await stand.events.look()
        await stand.later(31)  # the last attempt's claim is over
        await stand.later(5)
        await stand.events.look()
        await stand.later(5)
    assert thresholds(script) == [50, 80]
    assert told(script)[0] == told(lost)[0]


async def test_another_receiver_is_told_at_once_what_the_former_did_not_take(tmp_path: Path) -> None:
    with receiver(lambda _: status(404)) as former, receiver() as script:
        stand = Stand(tmp_path, former.base_url)
        await stand.use(50)
        for _ in range(12):
            await stand.later(3601)
        stand.events.configure(settings(script.base_url))
        await stand.later(31)
        assert thresholds(script) == [50]


async def test_two_processes_over_one_database_tell_each_threshold_once(tmp_path: Path) -> None:
    with receiver() as script:
        stand = Stand(tmp_path, script.base_url)
        one = stand.events
        stand.restart(script.base_url)
        stand.uses = [BudgetUse("alice", None, 100 * USD, "total", 100 * USD)]
        for _ in range(3):
            await asyncio.gather(one.look(), stand.events.look())
            await asyncio.gather(one.deliver(), stand.events.deliver())
            stand.now += 31 * S
    assert sorted(thresholds(script)) == [50, 80, 100]


async def test_a_clock_that_is_set_back_holds_nothing_up(tmp_path: Path) -> None:
    answers = [status(500), TAKEN]
    with receiver(lambda _: answers.pop(0)) as script:
        stand = Stand(tmp_path, script.base_url)
        await stand.use(50)
        await stand.later(0)
        await stand.later(-86_400)
        assert len(script.received) == 2


@pytest.mark.parametrize(
    ("steps", "noted"),
    [
        ([(90, 100), (90, 200), (100, 200)], [50, 80, 50]),  # raised: $90 of $200 are 45 %
        ([(45, 100), (45, 50)], [50, 80]),  # lowered
        ([(50, 100), (50, 200), (50, 100), (80, 100)], [50, 80]),  # set back
        ([(85, 100), (20, 100), (85, 100)], [50, 80]),  # adjusted, and used again
        ([(100, 100), (100, 110)], [50, 80, 100, 50, 80]),  # ten dollars more of credit
    ],
)
async def test_a_budget_that_changes_in_mid_period_is_another_budget(
    tmp_path: Path, steps: list[tuple[float, float]], noted: list[int]
) -> None:
    stand = Stand(tmp_path)
    for used, budget in steps:
        await stand.use(used, budget)
    assert stand.noted() == noted


async def test_a_new_period_and_another_kind_of_period_are_told_anew(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    await stand.use(60, period="2026-11")
    await stand.use(5, period="2026-12")
    await stand.use(55, period="2026-12")
    await stand.use(55, period="2026-12-09")
    assert stand.noted() == [50, 50, 50]


async def test_whatever_fails_it_goes_on_and_says_so_once(tmp_path: Path) -> None:
    """Budgets that can't be told, a database that is away: calls are served, and the next look tries again."""
    with receiver() as script:
        stand = Stand(tmp_path, script.base_url)
        stand.uses = None  # type: ignore[assignment]  # what can't be iterated
        away = Path(str(stand.database)).with_suffix(".away")
        with capture_logs() as lines:
            watching = asyncio.get_running_loop().create_task(stand.events.watch())
            Path(str(stand.database)).rename(away)
            await until(lambda: sum(line["event"] == "chore_failing" for line in lines) == 2)
            away.rename(Path(str(stand.database)))
            stand.uses = [BudgetUse("alice", None, 100, "total", 50)]
            await until(lambda: bool(script.received))
            watching.cancel()
            await asyncio.wait([watching])
    failing = [line["what"] for line in lines if line["event"] == "chore_failing"]
    assert sorted(failing) == ["budgets aren't looked at", "events aren't delivered"]
    assert "chore_back" in [line["event"] for line in lines]
    assert thresholds(script) == [50]


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_slow_receiver_holds_up_nothing_but_itself(tmp_path: Path) -> None:
    """Looks go on while an attempt waits for its answer."""
    release = threading.Event()

    def slowly(_: dict[str, Any]) -> bytes:
        release.wait(30)
        return TAKEN

    with receiver(slowly) as script:
        stand = Stand(tmp_path, script.base_url)
        await stand.use(50)
        sending = asyncio.get_running_loop().create_task(stand.events.deliver())
        await until(lambda: bool(script.received))
        await stand.use(100)
        assert stand.noted() == [50, 80, 100]
        assert not sending.done()
        release.set()
        await sending
        await stand.later(1)
    assert thresholds(script) == [50, 80, 100]


KILLED = """
import asyncio, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from pydantic import SecretStr
from proxy.billing.records import id_maker
from proxy.config.schema import Events as Settings
from proxy.config.schema import Storage
from proxy.control.events import Events
from proxy.control.thresholds import BudgetUse
from proxy.store.database import open_database
from proxy.telemetry.metrics import Metrics

async def used():
    return [BudgetUse("alice", None, 100, "total", 100)]

hook = Settings(webhook_url={url!r}, webhook_secret_env="X", webhook_secret=SecretStr({secret!r}))
now = lambda: time.time_ns() // 1000 + {ahead} * 1_000_000
new_id = id_maker(lambda: time.time_ns() // 1_000_000, __import__("secrets").token_bytes)
database = open_database(Storage(data_dir=Path({folder!r})))
asyncio.run(Events(database, hook, used, Metrics("0", []), now_us=now, new_id=new_id).watch())
"""


def test_killed_in_the_midst_of_an_attempt_it_sends_the_same_again(tmp_path: Path) -> None:
    """kill -9 after the receiver has the event and before it is written down as delivered: at least once, one id."""
    came, end = threading.Event(), threading.Event()

    def hold_the_first(_: dict[str, Any]) -> bytes:
        if len(script.received) == 1:
            came.set()
            end.wait(30)
        return TAKEN

    def started(ahead: int) -> subprocess.Popen[bytes]:
        """`ahead`: seconds by which its clock is ahead, so that the claim of the first is over."""
        code = KILLED.format(root=str(ROOT), url=script.base_url, secret=SECRET, folder=str(tmp_path), ahead=ahead)
        return subprocess.Popen([sys.executable, "-c", code])

    with receiver(hold_the_first) as script:
        with started(0) as process:
            assert came.wait(30)
            process.send_signal(signal.SIGKILL)
        end.set()
        with started(60) as process:
            database = open_database(Storage(data_dir=tmp_path))
            for _ in range(3000):
                if len(script.received) >= 4 and not event_table.undelivered(database):
                    break
                threading.Event().wait(0.01)
            process.kill()
    assert thresholds(script) == [50, 50, 80, 100]
    assert told(script)[0] == told(script)[1]
