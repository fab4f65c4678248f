"""Two readers of a response's bytes, ours and h11: what each makes of them, and how the two differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import h11

from proxy.gemini.headers import Headers
from proxy.upstreams.heads import MAX_HEAD
from proxy.upstreams.incoming import Incoming

COMPLETE, CUT, REFUSED = "complete", "cut", "refused"
FRAMING = (b"content-length", b"transfer-encoding")
SAME, SOONER, STRICTER, LOOSER = "the same", "sooner", "stricter", "looser"


class Seen(NamedTuple):
    """What a reader made of the bytes that came, and of the orderly close behind them."""

    ending: str
    """COMPLETE; REFUSED: something is wrong with what came; CUT: nothing is, but the close came too early."""
    status: int
    """0 where no final head came."""
    headers: Headers
    body: bytes
    """As far as it was given out."""
    reusable: bool
    """Whether the connection, were it still open, might bear another call."""
    length: int
    """Bytes up to the response's end; 0 where it isn't COMPLETE."""


def by_us(wire: bytes, method: bytes, cuts: Iterable[int] = ()) -> Seen:
    """What `Incoming` makes of the bytes, cut at these places. `length` is told where they come one by one."""
    incoming, body, length = Incoming(method), bytearray(), 0
    buffer = memoryview(bytearray(wire))
    for start, end in itertools.pairwise([0, *cuts, len(wire)]):
        body += incoming.feed(buffer[start:end])
        buffer[start:end] = bytes(end - start)  # the reader's buffer is used again at once
        length = length or (end if incoming.complete else 0)
    refused, reusable = bool(incoming.broken), incoming.reusable
    if not refused and not incoming.complete:
        incoming.end()
        length = len(wire) if incoming.complete else 0
    ending = REFUSED if refused else COMPLETE if incoming.complete else CUT
    return Seen(ending, incoming.status, _told(incoming.headers), bytes(body), reusable, length)


def _told(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without the blanks behind a value, which are no part of it, and the framing, which shows in what it does."""
    return [(bytes(name), bytes(value).rstrip(b"\t ")) for name, value in headers if name not in FRAMING]


def by_us_bytewise(wire: bytes, method: bytes) -> Seen:
    """The same, byte by byte; the midst of what is very long in larger pieces."""
    midst = range(2000, len(wire) - 2000)
    return by_us(wire, method, (cut for cut in range(1, len(wire)) if cut not in midst or cut % 100 == 0))


def by_h11(wire: bytes, method: bytes) -> Seen:
    """What h11 makes of the bytes as the response to a request of this method."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    reader.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    reader.send(h11.EndOfMessage())
    if wire:  # nothing would be taken for the close
        reader.receive_data(wire)
    status, headers, body, ended = 0, Headers(), bytearray(), False
    try:
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status, headers = event.status_code, _told(event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                ended = True
                reader.receive_data(b"")
    except h11.RemoteProtocolError:
        return Seen(CUT if ended else REFUSED, status, headers, bytes(body), False, 0)
    excess = len(reader.trailing_data[0])
    reusable = reader.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} and not excess and not ended
    return Seen(COMPLETE, status, headers, bytes(body), reusable, len(wire) - excess)


def difference(ours: Seen, theirs: Seen) -> str:
    """How our reading differs. SOONER: neither takes it, and we don't wait. STRICTER: we take less. Else LOOSER."""
    if ours == theirs:
        return SAME
    if ours._replace(reusable=True) == theirs:
        return STRICTER
    begun = ours.status == 0 or (ours.status, ours.headers) == (theirs.status, theirs.headers)
    if ours.ending != REFUSED or not begun or not theirs.body.startswith(ours.body):
        return LOOSER
    return SOONER if theirs.ending == CUT and ours[1:] == theirs[1:] else STRICTER
