"""Several servers that share a Redis, and one of their upstreams out: nobody asks it before its time; then one does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.journeys.limited import ANSWER, ASK
from tests.journeys.watching import DEADLINE_S, body, until
from tests.redis_servers import RedisServer
from tests.scripted import scripted
from tests.stand import Weighbridge

OUT_S = 2.0
CLAIMED_S = 4.8
"""While a probe is under way so long, there is no other."""
DETAILS = [
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{OUT_S:g}s"},
]
QUOTA = json.dumps({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota.", "details": DETAILS}})


def says(connection: socket.socket, status: bytes, content: bytes) -> None:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % (status, len(content)) + content)


@dataclass
class ExhaustedOnce:
    """An upstream that answers 429 first; then it holds each request back until it is released."""

    asked_at: list[float] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, connection: socket.socket) -> None:
        self.asked_at.append(time.monotonic())
        if len(self.asked_at) == 1:
            says(connection, b"429 Too Many Requests", QUOTA.encode())
        else:
            self.released.wait(DEADLINE_S)
            says(connection, b"200 OK", ANSWER)


@contextmanager
def callers(stands: Sequence[Weighbridge], keys: list[str]) -> Iterator[list[list[int]]]:
    """Two clients of each server, who call without a break; gives the statuses of each server's answers."""
    statuses: list[list[int]] = [[] for _ in stands]
    end = threading.Event()

    def call(index: int) -> None:
        with httpx2.Client(base_url=stands[index].base_url, timeout=2 * DEADLINE_S) as client:
            while not end.is_set():
                answer = client.post(ASK, json=body("hello"), headers={"x-goog-api-key": keys[index]})
                statuses[index].append(answer.status_code)
                end.wait(0.01)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(len(stands)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_an_upstream_that_one_server_finds_out_of_quota_is_asked_by_none(
    redis_server: RedisServer, tmp_path: Path, at_end: ExitStack
) -> None:
    """Until its time is over; then by one call of them all. When that has gone well, all use it again, and no call
    has failed."""
    first = ExhaustedOnce()
    out = at_end.enter_context(scripted(first))
    well: Callable[[socket.socket], None] = lambda connection: says(connection, b"200 OK", ANSWER)  # noqa: E731
    others = [{"name": f"other-{at}", "base_url": at_end.enter_context(scripted(well)).base_url} for at in range(2)]
    settings = {"storage": {"redis_url": redis_server.url}, "upstreams": [{"name": "emulator"}, *others]}
    stands = [Weighbridge(tmp_path / name, out.base_url, settings) for name in ("one", "two", "three")]
    keys = [_started(stand, at_end) for stand in stands]
    for stand in stands:
        assert stand.process is not None
        assert stand.process.stdout is not None
        stand.serves(stand.process.stdout.readline())
    finder, *hearers = stands
    for _ in range(3):  # each upstream's turn
        answer = httpx2.post(finder.base_url + ASK, json=body("hello"), headers={"x-goog-api-key": keys[0]})
        assert answer.status_code == 200
    assert len(first.asked_at) == 1
    for stand in hearers:
        until(lambda stand=stand: told(stand, "upstream_out"), "it has heard that the upstream is out")
    with callers(stands, keys) as statuses:
        until(lambda: len(first.asked_at) > 1, "it is probed")
        served = [len(some) for some in statuses]
        until(lambda: all(len(some) > was + 20 for some, was in zip(statuses, served, strict=True)), "all are served")
        probes = first.asked_at[1:]
        first.released.set()
        for stand in stands:
            until(lambda stand=stand: told(stand, "upstream_back"), "it has heard that the upstream is back")
        until(lambda: len(first.asked_at) > 20, "it is used again")
    assert {status for some in statuses for status in some} == {200}
    assert probes[0] > first.asked_at[0] + OUT_S - 0.01  # told in whole milliseconds
    # A machine that stalls may make the claim of a probe wait too long: that is told.
    alone = sum(told(stand, "upstream_news_away") for stand in stands)
    assert len(probes) <= 1 + alone + (probes[-1] - probes[0]) // CLAIMED_S


def _started(stand: Weighbridge, at_end: ExitStack) -> str:
    """A key of a server that is about to open its doors."""
    stand.folder.mkdir()
    key = stand.key()
    at_end.enter_context(closing(stand))
    stand.spawn()
    return key


def told(stand: Weighbridge, event: str) -> int:
    """How many lines of the log say that."""
    return stand.log().count(f'"{event}"')
