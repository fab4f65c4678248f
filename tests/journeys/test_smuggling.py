"""One request is one request through the whole proxy, however it is framed, cut and followed: none is smuggled."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import h11
import pytest

from tests.journeys.smuggling_corpus import CORPUS, KEY, RUN, SMUGGLED, Case
from tests.journeys.watching import connect
from tests.proof import Proof, sized
from tests.recorder import Recorder, recorder
from tests.scripted import Received
from tests.stand import Weighbridge, weighbridge

AT_ONCE = 32
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""Answered 200 only where the stream before it was read to its end, and no further."""
IN_SYNC: dict[str, list[list[int]]] = {"open": [[200]], "closed": [[]], "left": [[]], "either": [[200], []]}
"""What may be answered behind a stream's own answers."""

CREDENTIALS = {b"x-goog-api-key", b"x-api-key", b"authorization", b"cookie"}
FRAMINGS = {b"content-length", b"transfer-encoding"}

Cuts = Sequence[int]


def echo(request: Received, connection: socket.socket) -> None:
    """Answers with the word that names the sending."""
    run = b",".join(value for name, value in request.headers if name == b"x-run")
    answer = b'{"totalTokens":1,"run":"%b"}' % run
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Run: %b\r\n\r\n%b" % (len(answer), run, answer))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder(echo) as recording:
        yield recording


@pytest.fixture(scope="module")
def stand(upstream: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("smuggling"), upstream.base_url) as running:
        yield running


class Sender:
    """Sends streams of the corpus, each under a word of its own, and holds what comes back against it."""

    def __init__(self, stand: Weighbridge, upstream: Recorder) -> None:
        self.stand, self.upstream = stand, upstream
        self.key = stand.key().encode()
        self.runs = count(1)
        self.expected: dict[bytes, int] = {}
        self.counts: Counter[str] = Counter()

    def send_all(self, sendings: list[tuple[Case, Cuts]]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            wrong = [said for said in threads.map(self._send, sendings) if said]
        assert wrong == []

    def _send(self, sending: tuple[Case, Cuts]) -> str:
        """What of the answers isn't as the corpus says; else empty."""
        case, cuts = sending
        run = b"run-%06d" % next(self.runs)
        self.expected[run] = case.upstream
        try:
            answers = self._exchange(case, run, cuts)
        except (OSError, h11.RemoteProtocolError) as error:
            return f"{case.name}, cut at {list(cuts)}: {error!r}"
        self.counts[case.then] += 1
        count = len(case.answers)
        right = all((run in body) == (status == 200) for status, body in answers[:count])
        statuses = [status for status, _ in answers]
        if right and (tuple(statuses[:count]) == case.answers and statuses[count:] in IN_SYNC[case.then]):
            return ""
        return f"{case.name}, cut at {list(cuts)}: {answers}"

    def _exchange(self, case: Case, run: bytes, cuts: Cuts) -> list[tuple[int, bytes]]:
        stream = case.stream.replace(KEY, self.key).replace(RUN, run)
        last = b"" if case.then == "left" else PROBE
        with connect(self.stand.base_url) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(ConnectionError):
                for piece in pieces(stream + last, cuts):
                    connection.sendall(piece)
                    if len(cuts) == 1:
                        connection.settimeout(0.003)
                        with suppress(TimeoutError):
                            connection.recv(1, socket.MSG_PEEK)  # gives the server time to read this much by itself
                        connection.settimeout(10)
                if case.then == "left":
                    connection.shutdown(socket.SHUT_WR)
            raw = b"".join(iter(lambda: connection.recv(65536), b""))
        return responses(raw, "HEAD" if stream.startswith(b"HEAD ") else "GET")

    def check_upstream(self) -> None:
        """As many requests as the corpus states, each with one framing and one credential, which is the operator's."""
        assert self.upstream.errors == []
        counted: Counter[bytes] = Counter()
        for request in self.upstream.requests():
            names = [name for name, _ in request.headers]
            fields = dict(request.headers)
            head = b"\n".join([request.target, *[name + value for name, value in request.headers]])
            assert SMUGGLED not in head, head
            assert self.key not in head, head
            assert [name for name in names if name in CREDENTIALS] == [b"x-goog-api-key"], head
            assert fields[b"x-goog-api-key"] == self.stand.upstream_key.encode()
            assert names.count(b"host") == 1
            assert [name for name in names if name in FRAMINGS] == [b"content-length"] * (request.method == b"POST")
            counted[fields[b"x-run"]] += 1
        assert counted == {run: times for run, times in self.expected.items() if times}


def pieces(stream: bytes, cuts: Cuts) -> Iterator[bytes]:
    start = 0
    for cut in [*cuts, len(stream)]:
        if piece := stream[start:cut]:
            yield piece
        start = cut


def responses(raw: bytes, first: str = "GET") -> list[tuple[int, bytes]]:
    """Status and body of each final response in `raw`. h11.RemoteProtocolError where it is none, or broken off."""
    read: list[tuple[int, bytes]] = []
    while raw:
        judge = h11.Connection(h11.CLIENT)
        judge.send(h11.Request(method="GET" if read else first, target="/", headers=[("host", "x")]))
        judge.send(h11.EndOfMessage())
        judge.receive_data(raw)
        judge.receive_data(b"")
        status, body = 0, b""
        while not isinstance(event := judge.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        read.append((status, body))
        raw = judge.trailing_data[0]
    return read


def test_the_corpus_is_answered_as_it_says_and_nothing_else_goes_up(
    stand: Weighbridge, upstream: Recorder, proof: Proof
) -> None:
    """Every stream whole, byte by byte and cut at random; the short ones cut at each of their bytes."""
    chance = random.Random(3)
    sender = Sender(stand, upstream)
    assert len(sender.key) == len(KEY)
    sendings: list[tuple[Case, Cuts]] = []
    for case in CORPUS:
        size = len(case.stream)
        sendings += [(case, ())]
        if size < 2000:
            sendings += [(case, range(1, size))]
        for _ in range(sized(1, 10)):
            sendings.append((case, sorted(chance.sample(range(1, size), min(size - 1, chance.randint(2, 9))))))
        if size < 600:
            sendings += [(case, (cut,)) for cut in range(chance.randrange(1, sized(100, 2)), size, sized(100, 1))]
    sender.send_all(sendings)
    sender.check_upstream()
    proof(streams=len(CORPUS), sendings=len(sendings), requests_upstream=sum(sender.expected.values()), **sender.counts)
