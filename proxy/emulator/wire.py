"""How a reply stands on the wire: Google's JSON, headers, framing of streams, gzip; and the ways to break it."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from typing import Any

from starlette.types import Receive, Send

from proxy.emulator.behaviours import Behaviour

Headers = list[tuple[bytes, bytes]]
JSON = b"application/json; charset=UTF-8"
PIECE = 64 * 1024

HTML_404 = b"""<!DOCTYPE html>
<html lang=en>
  <meta charset=utf-8>
  <meta name=viewport content="initial-scale=1, minimum-scale=1, width=device-width">
  <title>Error 404 (Not Found)!!1</title>
  <p><b>404.</b> <ins>That's an error.</ins>
  <p>The requested URL was not found on this server.  <ins>That's all we know.</ins>
"""


def printed(value: Any) -> str:
    """JSON as Google prints it: two spaces, `<` and `>` escaped, everything else in UTF-8."""
    return _escaped(json.dumps(value, indent=2, ensure_ascii=False))


def in_a_line(value: Any) -> str:
    """JSON as Google prints it within an SSE event: in one line, a space after colons only."""
    return _escaped(json.dumps(value, separators=(",", ": "), ensure_ascii=False))


def _escaped(text: str) -> str:
    # Both occur only within strings.
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def single(value: Any) -> list[bytes]:
    return [printed(value).encode() + b"\n"]


def sse(values: Sequence[Any]) -> list[bytes]:
    return [f"data: {in_a_line(value)}\r\n\r\n".encode() for value in values]


def array(values: Sequence[Any]) -> list[bytes]:
    """A stream without `alt=sse`: one JSON array, an element a piece, `]` as the last."""
    return [
        (",\n" if index else "[").encode() + printed(value).encode() + b"\n" for index, value in enumerate(values)
    ] + [b"]"]


def compressed(pieces: Iterable[bytes]) -> list[bytes]:
    """Gzip, flushed after each piece, as a stream must be."""
    packer = zlib.compressobj(level=1, wbits=31)
    packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    packed[-1] += packer.flush()
    return packed


def wants_gzip(headers: Headers) -> bool:
    for name, value in headers:
        if name == b"accept-encoding":
            for coding in value.lower().split(b","):
                name_, _, weight = coding.partition(b";")
                if name_.strip() == b"gzip" and weight.replace(b" ", b"") not in (b"q=0", b"q=0.0"):
                    return True
    return False


def headers(content_type: bytes, *, now: float, milliseconds: int, tier: str | None, gzip: bool) -> Headers:
    """The headers of a reply of Google's, in order. `now`: Unix seconds; `tier`: None for errors, which have none."""
    found: Headers = [(b"content-type", content_type)]
    if content_type.startswith(b"text/event-stream"):
        found.append((b"content-disposition", b"attachment"))
    found += [(b"vary", b"Origin"), (b"vary", b"X-Origin"), (b"vary", b"Referer")]
    if gzip:
        found.append((b"content-encoding", b"gzip"))
    found += [
        (b"date", formatdate(now, usegmt=True).encode()),
        (b"server", b"scaffolding on HTTPServer2"),
        (b"x-xss-protection", b"0"),
        (b"x-frame-options", b"SAMEORIGIN"),
        (b"x-content-type-options", b"nosniff"),
        (b"server-timing", b"gfet4t7; dur=%d" % milliseconds),
    ]
    if tier is not None:
        found.append((b"x-gemini-service-tier", tier.encode()))
    found.append((b"alt-svc", b'h3=":443"; ma=2592000,h3-29=":443"; ma=2592000'))
    return found


async def client_left(receive: Receive) -> None:
    """Returns once the client is gone (or the response complete)."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def deliver(
    send: Send, left: asyncio.Future[None], status: int, head: Headers, pieces: Sequence[bytes], how: Behaviour
) -> bool:
    """Sends a response as the behaviour asks. True if every byte was handed over to a client who was still there.

    Returns without completing the response where it is to break off; the server then drops the connection.
    """
    if how.length:
        head = [*head, (b"content-length", b"%d" % sum(map(len, pieces)))]
    await send({"type": "http.response.start", "status": status, "headers": head})
    bound = how.break_after if how.stall is None else how.stall
    left_to_send = sys.maxsize if bound is None else bound
    for index, piece in enumerate(pieces):
        if index and how.chunk_delay:
            await asyncio.wait([left], timeout=how.chunk_delay)
        part = piece[:left_to_send]
        left_to_send -= len(part)
        for start in range(0, len(part), PIECE):
            if left.done():
                return False
            await send({"type": "http.response.body", "body": part[start : start + PIECE], "more_body": True})
    if how.stall is not None:
        await left
    if bound is not None:
        return False
    # A body that was sent without a pause gave the loop no turn to notice that the client has left.
    await asyncio.sleep(0)
    if left.done():
        return False
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return True
