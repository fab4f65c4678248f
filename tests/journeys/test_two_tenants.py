"""Two projects over the same upstream connections, clients leaving at random: no byte of one reaches the other."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from proxy.billing.records import UsageRecord
from tests.journeys.caller import Answer, Broken, Caller
from tests.journeys.watching import TEXT, open_leases
from tests.proof import Proof, sized
from tests.recorder import Recorder, recorder
from tests.scripted import Received
from tests.stand import Weighbridge, weighbridge

PROJECTS = ("alpha", "omega")
MARKS = {"alpha": b"ALPHA-", "omega": b"OMEGA-"}
"""Each project's bytes hold its mark, and nobody else's."""
CLIENTS = 12
LARGEST = 300_000
SEED = 11
VERBS = (b"countTokens", b"generateContent", b"generateContent", b"streamGenerateContent?alt=sse")
RESET = struct.pack("ii", 1, 0)


class Ask(NamedTuple):
    """One call: its nonce says whose it is; its serial number is what its usage will be."""

    nonce: bytes
    serial: int
    verb: bytes
    up: int
    down: int

    @property
    def body(self) -> bytes:
        return b'{"contents":[{"parts":[{"text":"%b"}]}]}' % filled(self.nonce, self.up)

    @property
    def answer(self) -> bytes:
        usage = b'"usageMetadata":{"promptTokenCount":%d,"candidatesTokenCount":1},"totalTokens":1' % self.serial
        last = b'"responseId":"%b",%b' % (self.nonce, usage)
        if not self.verb.endswith(b"sse"):
            return b'{"candidates":[{"content":{"parts":[{"text":"%b"}]}}],%b}' % (filled(self.nonce, self.down), last)
        half = b'data: {"candidates":[{"content":{"parts":[{"text":"%b"}]}}]}\r\n\r\n' % filled(
            self.nonce, self.down // 2
        )
        return half + half + b"data: {%b}\r\n\r\n" % last

    def request(self, key: str, chance: random.Random) -> bytes:
        head = b"POST %b%b HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: %b\r\n" % (TEXT.encode(), self.verb, key.encode())
        head += b"X-Nonce: %b\r\nX-Serial: %d\r\nX-Verb: %b\r\n" % (self.nonce, self.serial, self.verb)
        head += b"X-Up: %d\r\nX-Down: %d\r\n" % (self.up, self.down)
        body = self.body
        if chance.random() < 0.5:
            return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        size = chance.choice((len(body), 16384, 1 + len(body) // 3, 7 + len(body) // 50))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut(body, size))
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def filled(nonce: bytes, size: int) -> bytes:
    return (nonce * (size // len(nonce) + 1))[:size]


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


class Upstream:
    """Answers each call with its nonce, in its head and all over its body; looks at what came up."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.seen: Counter[bytes] = Counter()
        self.metered: dict[int, bytes] = {}
        self.wrong: list[str] = []
        self._chance = random.Random(SEED)

    def reply(self, request: Received, connection: socket.socket) -> None:
        fields = dict(request.headers)
        serial, up, down = (int(fields[name]) for name in (b"x-serial", b"x-up", b"x-down"))
        ask = Ask(fields[b"x-nonce"], serial, fields[b"x-verb"], up, down)
        self.look(request, ask)
        answer, length = ask.answer, self._chance.random() < 0.5
        framing = b"Content-Length: %d" % len(answer) if length else b"Transfer-Encoding: chunked"
        kind = b"text/event-stream" if ask.verb.endswith(b"sse") else b"application/json"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nX-Nonce: %b\r\n%b\r\n\r\n" % (kind, ask.nonce, framing)
        if self._chance.random() < 0.2:
            time.sleep(0.004)
        connection.sendall(head)
        for piece in cut(answer, len(answer) // self._chance.randint(1, 4) + 1):
            if self._chance.random() < 0.2:
                time.sleep(0.004)
            connection.sendall(piece if length else b"%x\r\n%b\r\n" % (len(piece), piece))
        if not length:
            connection.sendall(b"0\r\n\r\n")

    def look(self, request: Received, ask: Ask) -> None:
        self.seen[ask.nonce] += 1
        if ask.verb != b"countTokens":
            self.metered[ask.serial] = ask.nonce
        names = [name for name, _ in request.headers]
        values = b"\n".join(value for _, value in request.headers)
        if request.body != ask.body:
            self.wrong.append(f"{ask}: another body came up")
        if names.count(b"x-goog-api-key") != 1 or b"authorization" in names or names.count(b"content-length") != 1:
            self.wrong.append(f"{ask}: {names}")
        if any(key in values + request.target for key in self.keys):
            self.wrong.append(f"{ask}: a client's key came up")


class Tenant(threading.Thread):
    """A client of one project with its own key: calls, pipelines, and leaves, as chance has it."""

    def __init__(self, stand: Weighbridge, number: int, calls: int) -> None:
        super().__init__(daemon=True)
        self.project = PROJECTS[number % 2]
        self.other = MARKS[PROJECTS[1 - number % 2]]
        self.key_name = f"key-{number}"
        self.url, self.key = stand.base_url, stand.key(self.project, self.key_name)
        self.chance = random.Random(SEED * 1000 + number)
        self.serials = itertools.count(number * 1_000_000 + 1)
        self.asked, self.may_ask = 0, calls
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.caller = Caller(self.url)

    def run(self) -> None:
        try:
            while self.asked < self.may_ask and not self.wrong:
                self.chance.choice((self.call, self.call, self.call, self.pipeline, self.leave, self.leave))()
        except Exception as error:
            self.wrong.append(repr(error))
        self.caller.close()

    def ask(self) -> Ask:
        self.asked += 1
        serial = next(self.serials)
        nonce = MARKS[self.project] + b"%08d;" % serial
        up, down = (int(LARGEST * self.chance.random() ** 8) for _ in range(2))
        return Ask(nonce, serial, self.chance.choice(VERBS), up, down)

    def call(self) -> None:
        ask = self.ask()
        self.caller.send(ask.request(self.key, self.chance))
        self.expect(ask)
        self.counts["whole"] += 1

    def pipeline(self) -> None:
        asks = [self.ask() for _ in range(self.chance.randint(2, 4))]
        self.caller.send(b"".join(ask.request(self.key, self.chance) for ask in asks))
        for ask in asks:
            self.expect(ask)
        self.counts["pipelined"] += len(asks)

    def expect(self, ask: Ask) -> None:
        """The next response is this call's, whole, and nothing else."""
        try:
            answer = self.caller.read()
        except Broken as error:
            answer = Answer(0, {}, str(error).encode(), False)
        if (answer.status, answer.headers.get(b"x-nonce"), answer.body) != (200, ask.nonce, ask.answer):
            self.wrong.append(f"{ask.nonce!r} was answered {bytes(self.caller.raw[:300])!r} {answer.body[:100]!r}")
        self.look(self.caller.raw)

    def look(self, raw: bytes | bytearray) -> None:
        if self.other in raw:
            self.wrong.append(f"{self.project} read {bytes(raw[:300])!r}")

    def leave(self) -> None:
        """Leaves in the midst of the head, the body or the response, or of the second response of two."""
        ask = self.ask()
        raw = ask.request(self.key, self.chance)
        head = raw.index(b"\r\n\r\n") + 4
        where = self.chance.choice(("head", "body", "response", "response"))
        if where == "response":
            if self.chance.random() < 0.3:
                raw += self.ask().request(self.key, self.chance)
                where = "pipelined response"
            self.caller.send(raw)
            self.read_some(ask)
        else:
            self.caller.send(
                raw[: self.chance.randrange(1, head) if where == "head" else self.chance.randrange(head, len(raw))]
            )
        how = self.chance.choice(("close", "reset", "half-close"))
        self.end(how)
        self.counts[f"left in the {where}"] += 1
        self.counts[how] += 1
        self.caller = Caller(self.url)

    def read_some(self, ask: Ask) -> None:
        """Some bytes of the response, or none; or the whole, and perhaps a little of what is behind it."""
        wanted = self.chance.choice((0, 1, self.chance.randrange(200), self.chance.randrange(ask.down + 300)))
        got = b""
        self.caller.socket.settimeout(0.5)
        with suppress(OSError):
            while len(got) < wanted and (piece := self.caller.socket.recv(wanted - len(got))):
                got += piece
        self.look(got)

    def end(self, how: str) -> None:
        sock = self.caller.socket
        with suppress(OSError):
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif how == "half-close":
                sock.shutdown(socket.SHUT_WR)
                self.look(b"".join(iter(lambda: sock.recv(1 << 16), b"")))
        sock.close()


@contextmanager
def running(folder: Path) -> Iterator[tuple[Weighbridge, Upstream, Recorder]]:
    upstream = Upstream()
    with recorder(upstream.reply, forgets=True) as recording, weighbridge(folder, recording.base_url) as stand:
        yield stand, upstream, recording


def test_no_byte_of_one_project_reaches_the_other(tmp_path: Path, proof: Proof) -> None:
    """And every call that went up is on the bill once, of the key that made it."""
    calls = sized(1500, 20_000)
    with running(tmp_path) as (stand, upstream, recording):
        tenants = [Tenant(stand, number, -(-calls // CLIENTS)) for number in range(CLIENTS)]
        upstream.keys = [tenant.key.encode() for tenant in tenants]
        for tenant in tenants:
            tenant.start()
        for tenant in tenants:
            tenant.join(sized(120, 3600))
            assert not tenant.is_alive()
        assert [wrong for tenant in tenants for wrong in tenant.wrong] == []
        assert stand.stop() == 0  # once every call under way has come to its end
        assert open_leases(stand.data_dir) == 0
        assert upstream.wrong == recording.errors == []
        records = stand.records()
    counts = sum((tenant.counts for tenant in tenants), Counter[str]())
    check_bill(records, upstream, tenants)
    assert set(upstream.seen.values()) == {1}
    assert len(recording.wires) < len(upstream.seen)
    assert len(counts) == 9, counts
    outcomes = Counter(f"billed {record.outcome}" for record in records)
    assert outcomes["billed client_gone"]
    assert outcomes["billed ok"]
    proof(
        seed=SEED,
        calls=sum(tenant.asked for tenant in tenants),
        went_up=len(upstream.seen),
        upstream_connections=len(recording.wires),
        **counts,
        **outcomes,
    )


def check_bill(records: list[UsageRecord], upstream: Upstream, tenants: list[Tenant]) -> None:
    owners = {tenant.key_name: tenant.project for tenant in tenants}
    billed: Counter[int] = Counter()
    for record in records:
        serial = record.prompt_token_count
        assert record.response_id.encode() == upstream.metered[serial]
        assert record.key_name == f"key-{serial // 1_000_000}"
        assert record.project == owners[record.key_name]
        billed[serial] += 1
    assert billed == dict.fromkeys(upstream.metered, 1)
