"""`serve` with several workers, as users have it: who is killed is replaced, and what all have done is one bill."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import sqlite3
from collections import Counter
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from proxy.billing import reports
from proxy.billing.records import UsageRecord
from tests.certificates import make_certificate
from tests.journeys.limited import ASK, AT_ONCE, call_at_once, limits_told, used, went_up, with_limits
from tests.journeys.many import children, connections_of, kept, kill_all, logged, reborn, with_workers
from tests.journeys.numbered import VERBS, Whole, account, compare, forget, numbered
from tests.journeys.watching import DEADLINE_S, TEXT, body, in_flight, until
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge

CALLERS = 16


class Load:
    """Calls, many at once, that go on whichever process dies."""

    def __init__(self, stand: Weighbridge, key: str) -> None:
        self._stand, self._key = stand, key
        self._numbers = itertools.count(1)
        self.over = False
        self.whole: dict[int, Whole] = {}
        self.broken = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._call())

    async def _call(self) -> None:
        headers = {"x-goog-api-key": self._key, "content-type": "application/json"}
        while not self.over:
            async with httpx2.AsyncClient(
                base_url=self._stand.base_url, headers=headers, timeout=30, verify=False
            ) as client:
                for number in itertools.islice(self._numbers, 8):
                    asked = numbered(number, ("", "[[delay=0.02]]", "[[chunks=4]] [[chunk-delay=0.005]]")[number % 3])
                    try:
                        answer = await client.post(TEXT + VERBS[number % 3], content=asked)
                    except (httpx2.TransportError, AttributeError):  # anyio asks a dead connection for its peer
                        self.broken += 1
                        break
                    assert answer.status_code == 200, answer.text
                    self.whole[number] = Whole(answer.headers["x-weighbridge-request-id"], 0)

    async def more(self, calls: int) -> None:
        enough = len(self.whole) + calls
        await asyncio.to_thread(until, lambda: len(self.whole) >= enough, "calls go on")


def counters(stand: Weighbridge) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample that may only go up."""
    families = text_string_to_metric_families(httpx2.get(f"{stand.admin_url}/metrics", timeout=30).text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def answered(stand: Weighbridge) -> float:
    found = counters(stand).items()
    return sum(
        value for (name, labels), value in found if name == "weighbridge_requests_total" and ("status", "200") in labels
    )


async def test_whoever_is_killed_is_replaced_and_the_bill_is_whole(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """A worker, another one, the control process, under load: only calls in flight of the dead are broken off; each is
    `unsettled`, once; the ledger over all files equals the upstream's account; no counter goes down."""
    forget(upstream)
    stand = with_workers(at_end, tmp_path, upstream, redis_server, 4)
    load = Load(stand, stand.key())
    stand.start()
    running = asyncio.get_running_loop().create_task(load.run())
    await load.more(100)
    for door in (stand.base_url, stand.admin_url):  # each process counts what it refuses, the control process, too
        assert httpx2.get(f"{door}/{'x' * 20_000}").status_code == 414
    seen = counters(stand)
    for times, slot in enumerate(("0", "2", "control"), 1):
        killed = children(stand)[slot]
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(reborn, stand, slot, killed)
        await load.more(60)
        now = await asyncio.to_thread(counters, stand)
        assert {sample: (value, now.get(sample)) for sample, value in seen.items() if now.get(sample, 0) < value} == {}
        assert now["weighbridge_workers_replaced_total", frozenset()] == times
        seen = now
    load.over = True
    await running
    await asyncio.to_thread(until, lambda: in_flight(stand.admin_url) == 0, "no call is in flight")
    records = stand.records()
    outcomes = compare(records, account(upstream), load.whole)
    assert outcomes.keys() <= {"ok", "unsettled"}
    assert outcomes["unsettled"] <= 2 * CALLERS
    assert outcomes.total() >= len(load.whole)
    died = logged(stand, "process_died")
    assert [(line["process"], line["how"]) for line in died] == [
        (which, "signal 9") for which in ("worker 0", "worker 2", "control process")
    ]
    # What a worker counted in its last second went with it.
    assert len(load.whole) * 0.5 < answered(stand) <= outcomes["ok"]
    assert stand.stop(signal.SIGTERM) == 0
    assert {line["process"] for line in logged(stand, "draining")} == {f"worker {slot}" for slot in range(4)}
    assert stand.records() == records


async def test_two_thousand_calls_at_once_on_four_workers_exactly_the_limit_passes(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Where the machine is so busy that Redis seems to be away, nobody is let in for it: those come again."""
    forget(upstream)
    stand = with_workers(at_end, tmp_path, upstream, redis_server, 4, limits={"on_redis_down": "deny"})
    key = with_limits(stand, "rpm=100", "rpd=1000")
    stand.start()
    await asyncio.to_thread(connections_are_spread, stand, 4)
    statuses = Counter(await call_at_once(stand, key, ASK, body("hello")))
    while denied := statuses.pop(503, 0):
        statuses.update(await call_at_once(stand, key, ASK, body("hello"), denied))
    assert statuses == {200: 100, 429: AT_ONCE - 100}
    assert went_up(upstream) == len(stand.records()) == 100
    assert used(stand) == {"rpm": 100, "rpd": 100}
    until(lambda: answered(stand) == 100, "what all workers counted is added up")


def test_commands_ask_the_control_process(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """An adjustment stands in its own ledger file and is counted at once; an upstream that is disabled is disabled in
    all workers; a period is priced anew; a doctor sees all files; a reload says what it can't change."""
    two = with_workers(at_end, tmp_path, upstream, redis_server, 2)
    key = with_limits(two, "usd=1000,per=month")
    two.start()
    headers = {"x-goog-api-key": key}

    def call() -> int:
        return httpx2.post(two.base_url + ASK, json=body("hello"), headers=headers, timeout=30).status_code

    connections_are_spread(two, 2)
    until(lambda: call() == 200, "budgets are open: all have said what they spent")
    before = spent(two)
    two.run("usage", "adjust", "alice", "250", "--why", "a test", "--id", "adj_first")
    assert spent(two) == before + 250
    assert [len(list(_records(two, slot, "adjustment"))) for slot in ("0", "1", "control")] == [0, 0, 1]
    assert Decimal(json.loads(two.run("usage", "report", "--json"))["total"]["cost_usd"]) == before + 250
    assert json.loads(two.run("limits", "show", "alice", "--json"))["limits"][0]["used"].startswith("250.")
    two.run("ledger", "rerate", "--since", "2020-01-01", "--yes")
    two.run("upstreams", "disable", "emulator")
    until(lambda: {call() for _ in range(6)} == {503}, "no worker calls it")
    two.run("upstreams", "enable", "emulator")
    until(lambda: {call() for _ in range(6)} == {200}, "all do again")
    doctor = two.popen("proxy", "doctor").communicate(timeout=60)[0]
    for slot in ("0", "1", "control"):
        assert re.search(rf"ledger/{slot}.db: .* MiB, whole", doctor), doctor
    config = two.folder / "weighbridge.toml"
    config.write_text(config.read_text().replace("workers = 2", "workers = 4"))
    assert two.process is not None
    two.process.send_signal(signal.SIGHUP)
    until(lambda: len(logged(two, "configuration_reloaded")) >= 3, "all have read it")

    def later() -> list[tuple[object, object]]:
        return [(line["process"], line["what"]) for line in logged(two, "configuration") if "next start" in str(line)]

    told = until(lambda: found if len(found := later()) >= 3 else [], "all say what waits for the next start")
    assert set(told) == {
        (process, "server.workers: takes effect at the next start")
        for process in ("worker 0", "worker 1", "control process")
    }
    config.unlink()


def _records(stand: Weighbridge, slot: str, kind: str) -> list[UsageRecord]:
    return [record for record in reports.export([stand.data_dir / "ledger" / f"{slot}.db"]) if record.kind == kind]


async def test_with_fewer_workers_what_the_others_wrote_is_still_counted(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Four are killed with calls in flight, and two start: all calls are on the bill, and in the budget."""
    stand = with_workers(at_end, tmp_path, upstream, redis_server, 4)
    key = with_limits(stand, "usd=1000,per=month", "concurrency=100")
    stand.start()

    async def call(prompt: str, count: int) -> list[int]:
        return await call_at_once(stand, key, ASK, body(prompt), count)

    async with asyncio.timeout(DEADLINE_S):
        while set(await call("hello", 1)) != {200}:
            await asyncio.sleep(0.1)
    assert set(await call("hello", 40)) == {200}
    calling = asyncio.get_running_loop().create_task(call("[[delay=600]]", 40))
    await asyncio.to_thread(until, lambda: sum(leases(stand).values()) == 40, "all are in flight")
    of_the_freed = leases(stand)["2"] + leases(stand)["3"]
    assert of_the_freed
    kill_all(stand)
    await calling
    stand.settings["server"]["workers"] = 2  # type: ignore[index]
    stand.start()
    assert sorted(children(stand)) == ["0", "1", "control"]
    assert leases(stand) == {"0": 0, "1": 0, "2": 0, "3": 0, "control": 0}
    records = stand.records()
    assert Counter(record.outcome for record in records) == {"ok": 41, "unsettled": 40}
    assert json.loads(stand.run("usage", "report", "--json"))["total"]["calls"] == 81
    async with asyncio.timeout(DEADLINE_S):
        while set(await call("hello", 1)) != {200}:
            await asyncio.sleep(0.1)
    bill = sum(record.cost_usd or 0 for record in stand.records())
    until(lambda: spent(stand) * 10**9 == bill, "the budget has counted all")


def all_three(stand: Weighbridge) -> dict[str, int]:
    """Also where one of them reads another's ledger file at the moment, and passes for that one."""
    return until(lambda: found if len(found := children(stand)) == 3 else {}, "two workers and a control process")


def test_a_certificate_that_breaks_is_told_by_who_needs_it_and_holds_up_no_operator(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """A renewal that was half written: a worker that dies is replaced when it is whole, the control process at once."""
    pair = make_certificate(tmp_path, "127.0.0.1").path
    tls = {"tls_cert": str(pair), "tls_key": str(pair)}
    stand = with_workers(at_end, tmp_path / "node", upstream, redis_server, server=tls)
    stand.start()
    before, whole = all_three(stand), pair.read_bytes()
    pair.write_bytes(whole[:200])
    for slot in ("0", "control"):
        os.kill(before[slot], signal.SIGKILL)
    reborn(stand, "control", before["control"])
    until(lambda: "error: server.tls_cert, server.tls_key" in stand.log(), "the worker has said what it lacks")
    pair.write_bytes(whole)
    reborn(stand, "0", before["0"])
    assert "Traceback" not in stand.log()
    assert stand.stop(signal.SIGINT) == 0


def test_who_takes_a_dead_ones_place_bills_by_the_configuration_in_force_or_not_at_all(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Not by that of the supervisor's start: the others have read another one since, which may be broken by now."""
    stand = with_workers(at_end, tmp_path, upstream, redis_server)
    key = stand.key()
    stand.start()
    config, before = tmp_path / "weighbridge.toml", all_three(stand)
    price = '[[prices]]\nmodel = "gemini-3.8-flash"\nfrom = 2020-01-01\ninput_text = 900\noutput_text = 900\n'
    good = f"{config.read_text()}\n{price}"
    config.write_text(good)
    until(lambda: len(logged(stand, "configuration_reloaded")) >= 3, "all have read it")
    config.write_text("[nonsense\n")
    os.kill(before["0"], signal.SIGKILL)
    until(lambda: "error: " in stand.log() and "is not valid TOML" in stand.log(), "it has said why it can't start")
    until(lambda: children(stand).keys() == {"1", "control"}, "the others go on")
    config.write_text(good)
    os.kill(before["1"], signal.SIGKILL)
    reborn(stand, "0", before["0"])
    answers = [
        httpx2.post(f"{stand.base_url}{ASK}", json=body("hello"), headers={"x-goog-api-key": key}, timeout=30)
        for _ in range(4)
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    tokens = [record.total_token_count or 0 for record in stand.records()]
    assert [record.cost_usd for record in stand.records()] == [900_000 * each for each in tokens]


def connections_are_spread(stand: Weighbridge, workers: int) -> None:
    """Of 64 that are kept, each worker has half of its share or more, whether they come at once or one by one."""
    for at_once in (True, False):
        with kept(stand, 64, at_once=at_once):
            spread = connections_of(stand)
            assert len(spread) == workers
            assert min(spread.values()) >= 64 / workers / 2, spread


def spent(stand: Weighbridge) -> Decimal:
    """Of alice's budget."""
    (budget,) = (limit for limit in limits_told(stand)["limits"] if limit["kind"] == "usd")
    return Decimal(budget["used"])


def leases(stand: Weighbridge) -> dict[str, int]:
    """How many calls each ledger file holds for under way."""
    found = {}
    for path in (stand.data_dir / "ledger").glob("*.db"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
            (found[path.stem],) = file.execute("SELECT count(*) FROM leases").fetchone()
    return found
