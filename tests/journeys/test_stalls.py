"""Clients that read slowly or not at all, and upstreams that fall silent: two minutes, or twenty, on a moved clock."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from proxy.billing import reports
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import UsageRecord
from proxy.config.schema import Settings, Storage
from proxy.config.upstreams import Upstream
from proxy.doors import Doors, open_doors
from proxy.resources import bind
from proxy.upstreams.connection import READ
from proxy.upstreams.round_trip import HIGH_WATER
from tests.journeys.raw import Asked, call, judged, origin, request
from tests.journeys.test_broken_upstream import CONTENT, ERRORS, SHAPES, Case, Costs, cases, check, controls, usage
from tests.journeys.watching import DEADLINE_S, TEXT, open_leases
from tests.proof import Proof, sized
from tests.stand import Weighbridge
from tests.steered import Steered, steered

MIB = 1 << 20
BUFFER = 16 * 1024
"""Bytes asked for as a socket's buffer; the kernel takes twice as much, and some for its own books."""
WINDOWS = HIGH_WATER + 3 * READ
"""What a call holds of its response at most: written and not sent; read and not relayed, and the read that reached the
limit; a piece held back until the record is durable, and the one that replaces it."""


class Here(Weighbridge):
    """A Weighbridge on the test's own loop."""

    doors: Doors

    async def over(self, calls: int) -> list[UsageRecord]:
        """The ledger, once it has so many records, and nothing is under way."""
        async with asyncio.timeout(DEADLINE_S):
            while self.doors.app.in_flight or len(self.records()) < calls:
                await asyncio.sleep(0.01)
        assert open_leases(self.data_dir) == 0
        return self.records()

    def records(self) -> list[UsageRecord]:
        return list(reports.export(ledger_files(self.data_dir)))


@asynccontextmanager
async def here(folder: Path, upstream_url: str) -> AsyncIterator[Here]:
    upstream = Upstream(name="u", base_url=upstream_url, api_key=SecretStr("k"))
    settings = Settings(storage=Storage(data_dir=folder / "data"), upstreams=(upstream,))
    with bind("127.0.0.1", 0) as gateway, bind("127.0.0.1", 0) as control:
        gateway.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        async with open_doors(settings, gateway, control) as doors:
            stand = Here(folder, upstream_url, base_url=doors.base_url, admin_url=doors.admin_url)
            stand.doors = doors
            yield stand
            doors.interrupt()


class Long:
    """Answers with a picture of some MiB, piece by piece as it is taken, and counts what was."""

    def __init__(self, verb: str, size: int) -> None:
        data = "iVBOR" * (size // 5)
        part = f'{{"inlineData":{{"mimeType":"image/png","data":"{data}"}}}}'
        text = f'{{"candidates":[{{"content":{{"parts":[{part}]}}}}],{usage(8)}}}'
        self.body = (f"data: {text}\r\n\r\n" if "sse" in verb else f"[{text}]" if "stream" in verb else text).encode()
        self.raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body
        self.written = 0

    async def __call__(self, asked: Asked) -> None:
        self.writer = asked.writer
        for start in range(0, len(self.raw), 65536):
            asked.say(self.raw[start : start + 65536])
            self.written = min(start + 65536, len(self.raw))
            await asked.writer.drain()

    def taken(self) -> int:
        """Bytes that the other process has read: what was written, but for what lies in the sockets between."""
        here, there = (self.writer.get_extra_info(name)[1] for name in ("sockname", "peername"))
        waiting = self.writer.transport.get_write_buffer_size()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            ports = int(local[-4:], 16), int(remote[-4:], 16)
            sending, receiving = (int(queue, 16) for queue in queues.split(":"))
            waiting += sending if ports == (here, there) else receiving if ports == (there, here) else 0
        return self.written - waiting

    async def stuck(self) -> int:
        """Waits until no more is taken; gives what was."""
        same, before = 0, -1
        while same < 8:
            await asyncio.sleep(0.05)
            taken = self.taken() if self.written else 0
            same = same + 1 if taken == before and taken else 0
            before = taken
        return before


async def ask_slowly(stand: Here, path: str, version: str = "HTTP/1.1") -> socket.socket:
    """Asks, and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, stand.doors.gateway._listener.getsockname())
    await loop.sock_sendall(client, request(path, stand.key(), CONTENT, version=version))
    return client


async def rest_of(client: socket.socket) -> tuple[bytes, bool]:
    """All that still comes, and whether a reset ended it."""
    came, loop = b"", asyncio.get_running_loop()
    try:
        while piece := await loop.sock_recv(client, 65536):
            came += piece
    except ConnectionResetError:
        return came, True
    return came, False


async def passes(loop: Steered, seconds: int) -> None:
    """Lets that time pass, step by step, so that what is set by one timer is seen by the next."""
    for _ in range(seconds // 5):
        loop.advance(5)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("verb", "version"),
    [
        ("generateContent", "HTTP/1.1"),
        ("streamGenerateContent?alt=sse", "HTTP/1.1"),
        ("streamGenerateContent", "HTTP/1.0"),
    ],
)
def test_a_client_that_stops_reading_paces_the_upstream_and_is_gone_after_two_minutes(
    verb: str, version: str, tmp_path: Path
) -> None:
    upstream = Long(verb, 8 * MIB)

    async def main(loop: Steered) -> None:
        async with origin(upstream) as served, here(tmp_path, served.base_url) as stand:
            client = await ask_slowly(stand, TEXT + verb, version)
            with client:
                taken = await upstream.stuck()
                assert taken <= WINDOWS + 4 * BUFFER
                await passes(loop, 100)
                assert (stand.doors.app.in_flight, stand.records(), upstream.taken()) == (1, [], taken)
                await passes(loop, 40)
                (record,) = await stand.over(1)
                assert (record.outcome, record.estimated, record.total_token_count) == ("client_gone", False, 8)
                assert record.response_bytes == len(upstream.body)
                came, reset = await rest_of(client)
                seen = judged(came, reset=reset)
                assert upstream.body.startswith(seen.body)
                assert not seen.complete

    steered(main)


def test_a_client_that_reads_slowly_gets_all_of_it(tmp_path: Path) -> None:
    """Half an hour for half a megabyte, but never two minutes without some of it."""
    upstream = Long("generateContent", MIB // 2)

    async def main(loop: Steered) -> None:
        async with origin(upstream) as served, here(tmp_path, served.base_url) as stand:
            client, came, passed = await ask_slowly(stand, TEXT + "generateContent"), b"", 0
            with client:
                await upstream.stuck()
                while not judged(came, reset=True).complete:
                    if len(came) >= passed // 50 * 16 * 1024:
                        await passes(loop, 50)
                        passed += 50
                    came += await loop.sock_recv(client, 16 * 1024)
            assert passed > 1500
            (record,) = await stand.over(1)
            assert (judged(came).body, record.outcome) == (upstream.body, "ok")

    steered(main)


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent?alt=sse"])
def test_a_client_that_reads_a_byte_a_second(verb: str, tmp_path: Path) -> None:
    """A small response is read to its end. Of a large one the kernel sees nothing taken for two minutes: it is gone."""
    small, large = Long(verb, 100), Long(verb, 2 * MIB)

    async def read(loop: Steered, client: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
        came = b""
        while not enough(came):
            with suppress(ConnectionResetError):
                came += await loop.sock_recv(client, 1)
            loop.advance(1)
            await asyncio.sleep(0)
        return came

    async def main(loop: Steered) -> None:
        async with origin(small) as served, here(tmp_path / "small", served.base_url) as stand:
            with await ask_slowly(stand, TEXT + verb) as client:
                came = await read(loop, client, lambda came: judged(came, reset=True).complete)
            (record,) = await stand.over(1)
            assert (judged(came).body, record.outcome) == (small.body, "ok")
        async with origin(large) as served, here(tmp_path / "large", served.base_url) as stand:
            with await ask_slowly(stand, TEXT + verb) as client:
                assert await large.stuck() <= WINDOWS + 4 * BUFFER
                came = await read(loop, client, lambda _: not stand.doors.app.in_flight)
            (record,) = await stand.over(1)
            assert large.body.startswith(judged(came, reset=True).body)
            assert (record.outcome, record.estimated, record.total_token_count) == ("client_gone", False, 8)
            assert record.response_bytes == len(large.body)

    steered(main)


class Stalling:
    """An upstream that says so much of each case's answer, and nothing more."""

    def __init__(self, every: list[Case]) -> None:
        self.every = every
        self.waiting = 0

    async def __call__(self, asked: Asked) -> None:
        case = self.every[int(asked.header("x-case"))]
        asked.say(case.raw[: case.cut])
        self.waiting += 1
        if case.cut < len(case.raw):
            await asked.left()


def test_an_upstream_that_falls_silent_at_any_byte(tmp_path: Path, proof: Proof) -> None:
    """It is given up after twenty minutes: a refusal where nothing had gone down, else a response that looks broken."""
    known = [case for case in controls() if case.cut]
    every = known + [case for case in cases(SHAPES + ERRORS, sized(211, 3)) if case.ends_by == "reset"]
    upstream = Stalling(every)

    async def main(loop: Steered) -> list[UsageRecord]:
        answers, found = [], {}
        async with origin(upstream) as served:
            for start in range(0, len(every), 500):
                async with here(tmp_path / str(start), served.base_url) as stand:
                    key, callers = stand.key(), []
                    for number, case in enumerate(every[start : start + 500], start):
                        caller = await call(stand.base_url)
                        fields = f"X-Case: {number}", "Connection: close"
                        caller.send(request(TEXT + case.shape.verb, key, CONTENT, *fields, version=case.client))
                        callers.append(caller)
                    async with asyncio.timeout(DEADLINE_S):
                        while upstream.waiting < start + len(callers):
                            await asyncio.sleep(0.01)
                    loop.advance(1201)
                    answers += [await caller.answer() for caller in callers]
                    found |= {record.request_id: record for record in await stand.over(len(callers))}
        assert len(found) == len(every)
        records = [found[answer.headers["x-weighbridge-request-id"]] for answer in answers]
        estimate = next(record for record in records if record.total_token_count is None and record.cost_usd)
        costs = Costs.of([*records[: len(known)], estimate])
        for case, answer, record in list(zip(every, answers, records, strict=True))[len(known) :]:
            try:
                check(case, answer, record, costs, refusal=(504, "UPSTREAM_TIMEOUT"))
            except AssertionError as error:
                raise AssertionError(f"{case}\nanswered {answer}\nrecorded {record}") from error
        return records

    outcomes = [record.outcome for record in steered(main)]
    proof(calls=len(every), **{outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))})


def test_a_client_that_left_is_outlived_for_twenty_minutes_though_the_upstream_says_a_word_now_and_then(
    tmp_path: Path,
) -> None:
    """Then the call is billed by the last usage that was seen."""
    asked: asyncio.Future[Asked]

    async def answering(came: Asked) -> None:
        asked.set_result(came)
        await came.left()

    async def main(loop: Steered) -> None:
        nonlocal asked
        asked = loop.create_future()
        async with origin(answering) as served, here(tmp_path, served.base_url) as stand:
            caller = await call(stand.base_url)
            caller.send(request(TEXT + "streamGenerateContent?alt=sse", stand.key(), CONTENT))
            upstream = await asked
            upstream.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\ndata: {%b}\r\n\r\n" % usage(8).encode())
            await caller.holds(lambda came: b"usageMetadata" in came)
            await caller.leave("half-close")
            for _ in range(10):
                upstream.say(b"data: {}\r\n\r\n")
                await passes(loop, 115)
                assert stand.doors.app.in_flight == 1
            await passes(loop, 60)
            (record,) = await stand.over(1)
            assert (record.outcome, record.estimated, record.total_token_count) == ("truncated", True, 8)
            assert record.response_bytes == len(b"data: {%b}\r\n\r\n" % usage(8).encode()) + 10 * 12

    steered(main)
