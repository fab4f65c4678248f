"""However calls end, nothing of them stays: no lease, no descriptor; and each that went up whole has its record."""

from __future__ import annotations

import collections
import contextlib
import json
import random
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from proxy.billing.records import UsageRecord
from tests.journeys.watching import PICTURE, TEXT, body, connect, open_leases, until
from tests.proof import Proof, sized
from tests.scripted import Scripted, scripted
from tests.stand import Weighbridge, weighbridge

CALLERS = 8
USAGE = {"promptTokenCount": 4, "candidatesTokenCount": 6, "totalTokenCount": 10}
ANSWER = json.dumps(
    {"candidates": [{"content": {"parts": [{"text": "x" * 3000}]}, "finishReason": "STOP"}], "usageMetadata": USAGE}
).encode()
ERROR = b'{"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}'
HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n"
WHOLE = HEAD % b"200 OK" + b"Content-Length: %d\r\n%b\r\n%b"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)


OK = WHOLE % (len(ANSWER), b"", ANSWER)
QUOTA = HEAD % b"429 Too Many Requests" + b"Content-Length: %d\r\n\r\n%b" % (len(ERROR), ERROR)


class Ending(NamedTuple):
    """How an upstream ends a call, and what the ledger says of it then."""

    outcome: str
    says: bytes = b""
    closes: bool = True
    resets: bool = False


# fmt: off
ENDINGS = [
    *[Ending("ok", OK, closes=False)] * 6,
    Ending("ok", HEAD % b"200 OK" + CHUNKED, closes=False),
    Ending("ok", WHOLE % (len(ANSWER), b"Connection: close\r\n", ANSWER)),
    Ending("upstream_error", QUOTA, closes=False),
    Ending("truncated"),
    Ending("truncated", resets=True),
    Ending("truncated", OK[:20]),
    Ending("truncated", OK[:20], resets=True),
    Ending("truncated", OK[:-1]),
    Ending("truncated", OK[:-1], resets=True),
    Ending("truncated", (HEAD % b"200 OK" + CHUNKED)[:-3]),
    Ending("truncated", b"HTTP/1.1 200 OK\n\n"),
]
STAYS = ["stays"] * 6 + ["has no key"]
LEAVES = ["leaves at once", "leaves in the answer", "leaves in its request"]
# fmt: on
RESET = struct.pack("ii", 1, 0)


class Upstream:
    """Ends each call in one of many ways, and counts what the ledger must say of it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self.ended: collections.Counter[str] = collections.Counter()

    def answer(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
            ending = self._chance.choice(ENDINGS)
            self.ended[ending.outcome] += 1
        if ending.says:
            connection.sendall(ending.says)
        if ending.resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if ending.closes:
            connection.close()

    def leave(self) -> None:
        """Closes all that is still open."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Caller:
    """Makes calls over a connection, until it leaves it in one of many ways."""

    def __init__(self, stand: Weighbridge, key: str, chance: random.Random) -> None:
        self._stand = stand
        self._key = key
        self._chance = chance
        self.ended: collections.Counter[str] = collections.Counter()

    def make(self, calls: int) -> collections.Counter[str]:
        connection = connect(self._stand.base_url)
        for _ in range(calls):
            how = self._chance.choice(STAYS + LEAVES)
            self.ended[how] += 1
            with contextlib.suppress(OSError):
                if self._call(connection, how):
                    continue
            if self._chance.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
            connection = connect(self._stand.base_url)
        connection.close()
        return self.ended

    def _call(self, connection: socket.socket, how: str) -> bool:
        """Whether another call may follow it."""
        path = self._chance.choice([TEXT + "generateContent", TEXT + "streamGenerateContent?alt=sse", PICTURE])
        data = json.dumps(body("x" * self._chance.randrange(2000))).encode()
        key = "wb_none" if how == "has no key" else self._key
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: {key}\r\nContent-Length: {len(data)}\r\n\r\n"
        request = head.encode() + data
        connection.sendall(request[: len(request) // 2] if how == "leaves in its request" else request)
        if how == "leaves in the answer":
            connection.recv(100)
        return how in STAYS and _read(connection)


def _read(connection: socket.socket) -> bool:
    """Reads one response; False where it breaks off."""
    came = b""
    while b"\r\n\r\n" not in came:
        if not (piece := connection.recv(65536)):
            return False
        came += piece
    head, _, rest = came.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
    while (len(rest) < int(length)) if length else not rest.endswith(b"0\r\n\r\n"):
        if not (piece := connection.recv(65536)):
            return False
        rest += piece
    return b"connection: close" not in head.lower()


def descriptors(stand: Weighbridge) -> int:
    assert stand.process is not None
    return len(list(Path(f"/proc/{stand.process.pid}/fd").iterdir()))


def agrees(records: list[UsageRecord], upstream: Upstream, script: Scripted) -> bool:
    """Each request that came to the upstream whole stands in the ledger once, ended as it did."""
    found = collections.Counter(record.outcome for record in records)
    found["ok"] += found.pop("client_gone", 0)
    return found == upstream.ended and len(records) == len(script.received)


def test_calls_however_they_end_leave_a_record_each_and_nothing_else(tmp_path: Path, proof: Proof) -> None:
    calls = sized(600, 50_000)
    upstream = Upstream(random.Random(1))
    with scripted(upstream.answer) as script, weighbridge(tmp_path, script.base_url) as stand:
        key = stand.key()
        Caller(stand, key, random.Random(2)).make(20)  # what is opened once is open now
        upstream.leave()
        until(lambda: open_leases(stand.data_dir) == 0, "the first leases end")
        before = descriptors(stand)
        with ThreadPoolExecutor(CALLERS) as pool:
            callers = [Caller(stand, key, random.Random(number)) for number in range(CALLERS)]
            ended = sum(pool.map(lambda caller: caller.make(calls // CALLERS), callers), collections.Counter[str]())
        until(lambda: open_leases(stand.data_dir) == 0, "all leases end")
        upstream.leave()
        until(lambda: descriptors(stand) <= before, f"descriptors come back to {before}, from {descriptors(stand)}")
        records = stand.records()
        assert agrees(records, upstream, script), (upstream.ended, len(script.received), len(records))
        assert stand.stop() == 0
    proof(
        calls=calls,
        records=len(records),
        descriptors=before,
        **ended,
        **{f"upstream {k}": v for k, v in upstream.ended.items()},
    )
