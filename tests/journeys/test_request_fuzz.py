"""The gateway's protocol beside h11, on mutated and spliced streams of the smuggling corpus: it is never the laxer one.

Whatever reaches the app is what h11 reads there: method, target, fields and body, one request after another. What h11
takes and the gateway doesn't is refused in so many words, which are listed.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from typing import Any, NamedTuple

import h11
import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from proxy.gateway.server import gateway_protocol
from tests.journeys.smuggling_corpus import CORPUS
from tests.proof import WHOLE, Proof, sized

SEED = 29
STREAMS = [case.stream for case in CORPUS if len(case.stream) < 4000]
VALID = [case.stream for case in CORPUS if case.answers[:1] == (200,) and len(case.stream) < 4000]
WORDS = (
    *(bytes([byte]) for byte in b'\x00\x01\t\n\x0b\x0c\r "#%,/0159:;=?@AFaf_{}\x7f\x80\xff'),
    *(
        b"\r\n",
        b"\n\n",
        b"\r\r\n",
        b"\r\n\r\n",
        b" \r\n",
        b"\r\n ",
        b"\r\n\t",
        b"0\r\n\r\n",
        b"1\r\na\r\n",
        b'5;a="b"\r\n',
    ),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"),
    *(
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"Host: y\r\n",
        b"chunked",
        b", chunked",
    ),
    *(b"HTTP/1.0", b"HTTP/1.1", b"RTSP/1.0", b"POST ", b"GET ", b"CONNECT ", b"HEAD ", b"http://x", b"*"),
)

STRICTER = (
    "The request is not valid HTTP/1.1: ",  # bare line breaks, folded fields, doubled or conflicting lengths: llhttp's
    "The request's HTTP version is not supported",
    "The request must have one Host header",
    "The Host header must hold a host",
    "The only transfer coding that is understood is chunked",
    "The request target is not a path",
    "The request's head, or what stands between the pieces of its body, exceeds",
    "Too many requests were sent ahead",
)
"""Why the gateway refuses what h11 takes."""


class Read(NamedTuple):
    """A request as it was read."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Wire(asyncio.Transport):
    """The server's end of a connection, held in memory: what it writes, and whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.wrote = bytearray()
        self.paused = self.closed = self.ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.wrote += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    abort = close


class Gateway:
    """A protocol of the gateway's for each stream, and what of it reached the app."""

    def __init__(self) -> None:
        self.config = uvicorn.Config(self.app, interface="asgi3", log_config=None, lifespan="off", proxy_headers=False)
        self.config.load()
        self.protocol: Any = gateway_protocol(lambda: "id", lambda *_: None)
        self.seen: list[Read] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        # h11 writes a coding's name in small letters.
        headers = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in scope["headers"]]
        self.seen.append(Read(scope["method"].encode(), target, headers, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def read(self, pieces: list[bytes]) -> tuple[list[Read], str]:
        """The requests that the app saw whole, and why no more of the stream was read, where it was refused."""
        self.seen = []
        wire, state = Wire(), ServerState()
        connection = self.protocol(config=self.config, server_state=state, app_state={})
        connection.connection_made(wire)
        for piece in pieces:
            while wire.paused and not wire.closed:
                await asyncio.sleep(0)
            if wire.closed or wire.ended:
                break
            connection.data_received(piece)
        for _ in range(4 * len(self.seen) + 100):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        while state.tasks:
            await asyncio.sleep(0)
        _, refused, said = bytes(wire.wrote).partition(b"x-weighbridge-refused")
        return self.seen, json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"] if refused else ""


def as_h11_reads(stream: bytes) -> tuple[list[Read], str]:
    """The requests in `stream`, and why there are no more."""
    read: list[Read] = []
    while True:
        # llhttp passes over empty lines before a request, over several spaces around a target, and takes RTSP and ICE
        # for HTTP. None of that says where a request ends, and none of it goes up.
        stream = re.sub(rb"^([A-Z-]+) +([!-~]+) +(?:HTTP|RTSP|ICE)/", rb"\1 \2 HTTP/", stream.lstrip(b"\r\n"))
        judge = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        judge.receive_data(stream)
        head, body = None, b""
        try:
            while not isinstance(event := judge.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return read, "no more came"
        except h11.RemoteProtocolError as error:
            return read, str(error)
        assert head is not None
        read.append(Read(head.method, head.target, list(head.headers), body))
        if judge.their_state is h11.MUST_CLOSE:
            return read, "closed"
        stream = judge.trailing_data[0]


def origin_form(request: Read) -> Read:
    """As the app sees it: the path and query of an absolute target."""
    found = re.match(rb"(?i:https?)://[^/?]*([^?]*)(\?.*)?", request.target)
    target = (found[1] or b"/") + (found[2] or b"") if found else request.target
    path, _, query = target.partition(b"?")
    return request._replace(target=path + b"?" + query if query else path)


def compare(stream: bytes, ours: list[Read], refused: str) -> str:
    """How the gateway was stricter, "" where it wasn't. AssertionError where it was laxer, or can't say why."""
    theirs, why = as_h11_reads(stream)
    if why.startswith(f"illegal chunk header: bytearray(b'{'0' * 16}"):
        return ""  # h11 takes no more than 20 digits, though they be noughts
    assert ours == [origin_form(request) for request in theirs[: len(ours)]], (stream, ours, theirs, why)
    if not refused:
        return ""
    reason = next((known for known in STRICTER if refused.startswith(known)), None)
    assert reason is not None, (stream, refused)
    return refused if len(theirs) > len(ours) else ""


def mutated(chance: random.Random) -> bytes:
    """One to three streams of the corpus, the next behind the one before or put into it, and a few mistakes."""
    stream = chance.choice(chance.choice((STREAMS, VALID)))
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.choice((len(stream), chance.randrange(len(stream) + 1)))
        stream = stream[:at] + chance.choice(chance.choice((STREAMS, VALID))) + stream[at:]
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(stream) + 1)
        end = at + chance.choice((0, 0, 1, 1, 2, chance.randrange(30)))
        stream = (
            stream[:at]
            + chance.choice((b"", chance.choice(WORDS), chance.choice(WORDS), stream[at:end] * 2))
            + stream[end:]
        )
    return stream or b"\r\n"


def cut(stream: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.choice((0, 0, 1, 3, 20))))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True) if start < end]


FOUND = [
    b"GET /a  HTTP/1.1\r\nHost: x\r\n\r\nGET  /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\r\n\nPOST /a RTSP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%b1\r\na\r\n0\r\n\r\n" % (b"0" * 40),
    b"GET http://x?a? HTTP/1.1\r\nHost: x\r\n\r\nGET /b? HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA:\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
]
"""Streams that llhttp reads in other ways than h11, or that were once read otherwise than they are now."""


@pytest.mark.parametrize("stream", FOUND)
def test_what_fuzzing_found_is_read_as_h11_reads_it(stream: bytes) -> None:
    async def run() -> None:
        for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
            ours, refused = await Gateway().read(pieces)
            compare(stream, ours, refused)
            assert ours

    uvloop.run(run())


def test_the_gateway_is_never_laxer_than_h11(proof: Proof) -> None:
    seed = random.randrange(1 << 32) if WHOLE else SEED
    print("seed", seed)
    chance = random.Random(seed)
    stricter: Counter[str] = Counter()
    requests = 0

    async def run() -> None:
        nonlocal requests
        gateway = Gateway()
        for _ in range(sized(4000, 400_000)):
            stream = mutated(chance)
            ours, refused = await gateway.read(cut(stream, chance))
            requests += len(ours)
            if reason := compare(stream, ours, refused):
                stricter[re.sub(r"\d+", "N", reason)] += 1

    uvloop.run(run())
    assert requests > sized(1000, 100_000)
    assert len(stricter) > 10
    proof(seed=seed, streams=sized(4000, 400_000), requests=requests, stricter=dict(stricter.most_common()))
