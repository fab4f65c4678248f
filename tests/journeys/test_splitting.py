"""An upstream that says more than it was asked, or says it in two ways: no client ever reads what was for another."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import pytest

from tests.journeys.caller import Broken, Caller
from tests.journeys.watching import DEADLINE_S, TEXT
from tests.proof import Proof, sized
from tests.recorder import Recorder, recorder, requests_in
from tests.scripted import Received
from tests.stand import Weighbridge, weighbridge

POISON = b"POISON"
"""Stands in whatever no client may ever read."""
USAGE = b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":5,"totalTokenCount":8}'
SECOND = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\nX-Run: POISON\r\n\r\n{"a":"POISON"}'


def right(run: bytes, fields: bytes = b"") -> bytes:
    """A response that says to whom it belongs, in its head and its body."""
    body = b'{"run":"%b",%b}' % (run, USAGE)
    return b"HTTP/1.1 200 OK\r\nX-Run: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (run, fields, len(body), body)


def chunked(run: bytes, fields: bytes = b"", ends: bytes = b"0\r\n\r\n") -> bytes:
    body = b'{"run":"%b",%b}' % (run, USAGE)
    head = b"HTTP/1.1 200 OK\r\nX-Run: %b\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (run, fields)
    return head + b"%x\r\n%b\r\n" % (len(body), body) + ends


class Trick(NamedTuple):
    """What the upstream says to a request that names it, in pieces, and what the caller may see of that."""

    says: Callable[[bytes], list[bytes]]
    sees: set[str]


WHOLE, BROKEN, REFUSED, LEFT = {"whole"}, {"broken"}, {"refused"}, {"left"}

TRICKS = {
    "a second response at once": Trick(lambda run: [right(run) + SECOND], WHOLE),
    "part of a second response": Trick(lambda run: [right(run) + SECOND[:20]], WHOLE),
    "a second response behind the last chunk": Trick(lambda run: [chunked(run) + SECOND], WHOLE),
    "bytes behind the length": Trick(lambda run: [right(run) + b"\r\n" + POISON], WHOLE),
    "an interim response behind": Trick(lambda run: [right(run) + b"HTTP/1.1 100 Continue\r\n\r\n"], WHOLE),
    "interim responses before": Trick(
        lambda run: [
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nX-Run: POISON\r\n\r\n" + right(run),
        ],
        WHOLE,
    ),
    "trailers that name fields": Trick(
        lambda run: [chunked(run, ends=b"0\r\nX-Run: POISON\r\nSet-Cookie: POISON\r\n\r\n")], WHOLE
    ),
    "trailers that name a length": Trick(lambda run: [chunked(run, ends=b"0\r\nContent-Length: 3\r\n\r\n")], BROKEN),
    "trailers and a second response": Trick(lambda run: [chunked(run, ends=b"0\r\nX: POISON\r\n\r\n" + SECOND)], WHOLE),
    "a body of no content": Trick(lambda run: [b"HTTP/1.1 204 No Content\r\n\r\n" + SECOND], {"empty"}),
    "a body of not modified": Trick(
        lambda run: [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nPOISON..." + SECOND], {"empty"}
    ),
    "an error and a second response": Trick(
        lambda run: [right(run).replace(b"200 OK", b"429 Too Many") + SECOND], {"error"}
    ),
    "close, and a second response": Trick(lambda run: [right(run, b"Connection: close\r\n") + SECOND], WHOLE),
    "length and chunks": Trick(lambda run: [chunked(run, b"Content-Length: 3\r\n") + SECOND], REFUSED),
    "chunks and length": Trick(
        lambda run: [chunked(run).replace(b"chunked\r\n", b"chunked\r\nContent-Length: 3\r\n") + SECOND], REFUSED
    ),
    "two lengths": Trick(lambda run: [right(run, b"Content-Length: 3\r\n") + SECOND], REFUSED),
    "a length in a list": Trick(lambda run: [right(run).replace(b"Length: ", b"Length: 5, ") + SECOND], REFUSED),
    "a coding twice": Trick(lambda run: [chunked(run, b"Transfer-Encoding: chunked\r\n") + SECOND], REFUSED),
    "an unknown coding": Trick(lambda run: [chunked(run).replace(b": chunked", b": xchunked") + SECOND], REFUSED),
    "a coding in HTTP/1.0": Trick(lambda run: [chunked(run).replace(b"/1.1", b"/1.0") + SECOND], REFUSED),
    "LF in the head": Trick(lambda run: [right(run, b"A: b\nX-Run: POISON\r\n")], REFUSED),
    "CR in the head": Trick(lambda run: [right(run, b"A: b\rX-Run: POISON\r\n")], REFUSED),
    "NUL in the head": Trick(lambda run: [right(run, b"A: POISON\x00\r\n")], REFUSED),
    "a folded field": Trick(lambda run: [right(run, b"A: b\r\n POISON\r\n")], REFUSED),
    "space before a colon": Trick(lambda run: [right(run, b"Transfer-Encoding : chunked\r\n")], REFUSED),
    "another protocol": Trick(lambda run: [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n" + SECOND], REFUSED),
    "another version": Trick(lambda run: [right(run).replace(b"HTTP/1.1", b"HTTP/2.0") + SECOND], REFUSED),
    "interim responses for ever": Trick(lambda run: [b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + right(run)], REFUSED),
    "no response": Trick(lambda run: [POISON * 3 + b"\r\n\r\n"], REFUSED),
    "LF in a chunk's line": Trick(lambda run: [chunked(run, ends=b"6\nPOISON\r\n0\r\n\r\n")], BROKEN),
    "LF in a chunk's extension": Trick(lambda run: [chunked(run, ends=b"6;a\nb\r\nPOISON\r\n0\r\n\r\n")], BROKEN),
    "no chunk's size": Trick(lambda run: [chunked(run, ends=b"POISON\r\n0\r\n\r\n")], BROKEN),
    "a chunk that is too long": Trick(lambda run: [chunked(run, ends=b"1\r\n\n" + POISON + b"\r\n0\r\n\r\n")], BROKEN),
    "trailers that are none": Trick(lambda run: [chunked(run, ends=b"0\r\nPOISON\r\n\r\n")], BROKEN),
    "an end before its length": Trick(lambda run: [right(run)[:-1], "end"], BROKEN),  # type: ignore[list-item]
    "an end before the last chunk": Trick(lambda run: [chunked(run, ends=b""), "end"], BROKEN),  # type: ignore[list-item]
    "more for a client that has left": Trick(lambda run: [right(run)[:-3], b"", right(run)[-3:] + SECOND], LEFT),
    "more chunks for a client that has left": Trick(
        lambda run: [chunked(run, ends=b""), b"", b"6\r\nPOISON\r\n0\r\n\r\n" + SECOND], LEFT
    ),
}


HARMLESS = {"", "interim responses before", "trailers that name fields"}
"""After these a connection may be used again."""

LATER = {
    "a response": SECOND,
    "part of a response": SECOND[:30],
    "an interim response": b"HTTP/1.1 100 Continue\r\n\r\n",
    "an empty line": b"\r\n",
}
"""What may come over a connection that nobody uses."""
sent_later = threading.Event()


def reply(request: Received, connection: socket.socket) -> None:
    fields = dict(request.headers)
    if later := LATER.get(fields.get(b"x-later", b"").decode()):
        connection.sendall(right(fields[b"x-run"]))
        time.sleep(0.01)
        connection.sendall(later)
        sent_later.set()
        return
    trick = TRICKS.get(fields.get(b"x-trick", b"").decode())
    for piece in trick.says(fields[b"x-run"]) if trick else [right(fields[b"x-run"])]:
        if piece == "end":
            connection.shutdown(socket.SHUT_WR)
        elif piece:
            connection.sendall(piece)
        else:
            time.sleep(0.003)  # so that the next piece comes by itself


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder(reply) as recording:
        yield recording


@pytest.fixture(scope="module")
def stand(upstream: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("splitting"), upstream.base_url) as running:
        yield running


class Caught:
    """A client that makes one call after another, and names what came of each."""

    def __init__(self, stand: Weighbridge, number: int) -> None:
        self.url, self.key = stand.base_url, stand.key(f"project-{number % 2}")
        self.number, self.chance = number, random.Random(number)
        self.runs = count(1)
        self.saw: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.caller = Caller(self.url)

    def calls(self, tricks: list[str]) -> None:
        for trick in tricks:
            came = self.call(trick)
            self.saw[came] += 1
            may = TRICKS[trick].sees if trick else {"whole"}
            if came not in may:
                self.wrong.append(f"{trick or 'a plain call'}: {came}: {bytes(self.caller.raw)!r}")
        self.caller.close()

    def call(self, trick: str, later: str = "") -> str:
        run = b"run-%d-%d-" % (self.number, next(self.runs))
        verb = b"countTokens" if not trick and self.chance.random() < 0.5 else b"generateContent"
        head = b"POST %b%b HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: %b\r\n" % (TEXT.encode(), verb, self.key.encode())
        head += b"X-Run: %b\r\nX-Trick: %b\r\nX-Later: %b\r\n" % (run, trick.encode(), later.encode())
        self.caller.send(head + b"Content-Length: 2\r\n\r\n{}")
        if trick and TRICKS[trick].sees == LEFT:
            self.caller.socket.recv(1)
            self._again()
            return "left"
        try:
            answer = self.caller.read()
        except Broken:
            came = "broken" if POISON not in self.caller.raw.partition(b"POISON\r\n0")[0] else "poisoned"
            self._again()
            return came
        if not answer.keeps:
            self._again()
        return self._name(answer.status, answer.headers.get(b"x-run"), answer.body, run)

    def _name(self, status: int, mark: bytes | None, body: bytes, run: bytes) -> str:
        if POISON in self.caller.raw:
            return "poisoned"
        if status == 502:
            return "refused"
        if status in (204, 304) and not body:
            return "empty"
        if mark == run and b'"%b"' % run in body:
            return "whole" if status == 200 else "error"
        return "another's"

    def _again(self) -> None:
        raw = self.caller.raw
        self.caller.close()
        self.caller = Caller(self.url)
        self.caller.raw = raw


def test_no_client_reads_what_an_upstream_sent_to_another_or_to_nobody(
    stand: Weighbridge, upstream: Recorder, proof: Proof
) -> None:
    """Two projects call over the same few connections; now and then the upstream plays a trick on one of them."""
    chance = random.Random(7)
    callers = [Caught(stand, number) for number in range(8)]
    size = sized(60, 2500)
    threads = []
    for number, caller in enumerate(callers):
        named = list(TRICKS)[number::8] * (size // 20 + 1)
        tricks = (chance.sample(named, min(len(named), size // 3)) + [""] * size)[:size]
        chance.shuffle(tricks)
        threads.append(threading.Thread(target=caller.calls, args=(tricks,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S * sized(1, 60))
        assert not thread.is_alive()
    assert [wrong for caller in callers for wrong in caller.wrong] == []
    assert upstream.errors == []
    saw = sum((caller.saw for caller in callers), Counter[str]())
    assert all(saw[kind] for kind in ("whole", "broken", "refused", "left", "empty", "error"))
    for wire in upstream.wires:
        for request in requests_in(bytes(wire))[:-1]:
            assert dict(request.headers)[b"x-trick"].decode() in HARMLESS
    requests = upstream.requests()
    runs = Counter(dict(request.headers)[b"x-run"] + dict(request.headers)[b"x-trick"] for request in requests)
    assert sum(saw.values()) >= len(requests) > len(upstream.wires)
    proof(calls=sum(saw.values()), upstream_connections=len(upstream.wires), tricks=len(TRICKS), **saw)
    assert max(runs.values()) == 1


@pytest.mark.parametrize("later", LATER)
def test_what_comes_over_an_idle_connection_answers_nobody(stand: Weighbridge, upstream: Recorder, later: str) -> None:
    """The connection is dropped. (What comes once the next request is on its way can't be told from its answer.)"""
    one, other = Caught(stand, 0), Caught(stand, 1)
    assert one.call("") == "whole"
    for caller in (other, one) * 5:
        sent_later.clear()
        assert one.call("", later) == "whole"
        assert sent_later.wait(DEADLINE_S)
        assert caller.call("") == "whole"
    one.caller.close()
    other.caller.close()
    for wire in upstream.wires:
        assert all(dict(request.headers)[b"x-later"] == b"" for request in requests_in(bytes(wire))[:-1])
