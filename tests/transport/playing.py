"""An upstream that does to each request what the request's target names, and keeps account of what came."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import cast

REQUEST = re.compile(rb"POST /(\d+)/([a-z-]+) HTTP/1\.1\r\nhost: h\r\ncontent-length: (\d+)\r\n\r\n")
FORGED = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
PAUSE = 0.002
"""Seconds between what comes apart: enough for what came before to have been read."""


def content(call: int) -> bytes:
    """The body of the response to a call, of this and no other."""
    return b"<%d>" % call * (0, 1, 50, 3_000, 30_000)[call % 5]


def chunked(body: bytes, size: int) -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def response(call: int) -> bytes:
    """One that leaves the connection usable, in one of two framings."""
    body = content(call)
    if call % 2:
        return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(body, 7_000)
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Stage:
    """What came to an upstream: `begun` and `whole` by call, and bytes that were no request of ours."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.begun: collections.Counter[int] = collections.Counter()
        self.whole: collections.Counter[int] = collections.Counter()
        self.desynchronized: list[bytes] = []
        self.connections: set[Playing] = set()
        self.accepted = 0


class Playing(asyncio.Protocol):
    """One connection of it."""

    transport: asyncio.Transport

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.chance = stage.chance
        self.buffer = bytearray()
        self.act: Callable[[Playing, int], None] | None = None
        self.left = 0
        self.call = 0
        self.over = False
        self.spoilt = False
        """What was said on it forbids another request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.stage.accepted += 1
        self.stage.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self.stage.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.buffer and not self.over:
            if self.act is None and not self._begin():
                return
            taken = min(self.left, len(self.buffer))
            del self.buffer[:taken]
            self.left -= taken
            if self.left:
                return
            act, self.act = self.act, None
            self.stage.whole[self.call] += 1
            if act is not None and act is not _nothing:
                act(self, self.call)

    def _begin(self) -> bool:
        """Takes a head, if it is there whole."""
        if b"\r\n\r\n" not in self.buffer:
            return False
        head = REQUEST.match(self.buffer)
        if head is None or self.spoilt:
            self.stage.desynchronized.append(bytes(self.buffer[:200]))
            self.transport.abort()
            self.over = True
            return False
        self.call, self.left = int(head[1]), int(head[3])
        act = ACTS[head[2].decode()]
        del self.buffer[: head.end()]
        self.stage.begun[self.call] += 1
        if act in AT_ONCE:
            act(self, self.call)
            act = _nothing
        self.act = act
        return True

    def write(self, data: bytes) -> None:
        if not self.over:
            self.transport.write(data)

    def later(self, *steps: Callable[[], object]) -> None:
        """Does these one after another, with pauses before each."""
        loop = asyncio.get_running_loop()
        for number, step in enumerate(steps, 1):
            loop.call_later(number * PAUSE, step)

    def close(self) -> None:
        self.over = True
        self.transport.close()

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.over:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.over = True
            self.transport.abort()

    def in_pieces(self, data: bytes) -> list[Callable[[], object]]:
        cuts = sorted(self.chance.randint(0, len(data)) for _ in range(3))
        return [lambda piece=data[a:b]: self.write(piece) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _nothing(playing: Playing, call: int) -> None:
    """The request's body is still read."""


def answer(playing: Playing, call: int) -> None:
    playing.write(response(call))


def dribble(playing: Playing, call: int) -> None:
    playing.later(*playing.in_pieces(response(call)))


def interim(playing: Playing, call: int) -> None:
    playing.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3 + response(call))


def until_close(playing: Playing, call: int) -> None:
    playing.write(b"HTTP/1.1 200 OK\r\n\r\n" + content(call))
    playing.close()


def answer_and_close(playing: Playing, call: int) -> None:
    playing.write(response(call))
    playing.close()


def answer_and_close_idle(playing: Playing, call: int) -> None:
    playing.write(response(call))
    playing.later(lambda: playing.close() if playing.call == call else None)


def answer_and_reset_idle(playing: Playing, call: int) -> None:
    playing.write(response(call))
    playing.later(lambda: playing.reset() if playing.call == call else None)


def excess(playing: Playing, call: int) -> None:
    """With the response, so that it is there when that is read; what comes later might answer another call."""
    whole = response(call)
    playing.spoilt = len(whole) < 60_000
    playing.write(whole + FORGED if playing.spoilt else whole)


def close(playing: Playing, call: int) -> None:
    playing.close()


def reset(playing: Playing, call: int) -> None:
    playing.reset()


def close_in_head(playing: Playing, call: int) -> None:
    playing.write(response(call)[:20])
    playing.close()


def reset_in_head(playing: Playing, call: int) -> None:
    playing.write(response(call)[:20])
    playing.later(playing.reset)


def close_in_body(playing: Playing, call: int) -> None:
    playing.write(response(call)[:-1])
    playing.close()


def reset_in_body(playing: Playing, call: int) -> None:
    playing.write(response(call)[:-1])
    playing.later(playing.reset)


def nonsense(playing: Playing, call: int) -> None:
    playing.write(
        playing.chance.choice([b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\nx: y\n\n", b"HTTP/1.1 200 OK\r\n x\r\n\r\n"])
    )


def bad_chunk(playing: Playing, call: int) -> None:
    body = chunked(content(call), 7_000).removesuffix(b"0\r\n\r\n")
    playing.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"z\r\n" + FORGED)


def silence(playing: Playing, call: int) -> None:
    playing.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def stall(playing: Playing, call: int) -> None:
    playing.write(response(call)[:-1])


def early(playing: Playing, call: int) -> None:
    playing.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")


def early_and_close(playing: Playing, call: int) -> None:
    early(playing, call)
    playing.close()


def early_reset(playing: Playing, call: int) -> None:
    playing.reset()


def deaf(playing: Playing, call: int) -> None:
    playing.transport.pause_reading()


GOOD = (answer, dribble, interim, until_close, answer_and_close, answer_and_close_idle, answer_and_reset_idle, excess)
FATAL = (close, reset, close_in_head, reset_in_head, close_in_body, reset_in_body, nonsense, bad_chunk)
SLOW = (silence, stall, deaf)
AT_ONCE = (early, early_and_close, early_reset, deaf)
"""Those that don't wait for the request's end."""
ACTS = {act.__name__.replace("_", "-"): act for act in (*GOOD, *FATAL, *SLOW, *AT_ONCE)}


@contextlib.asynccontextmanager
async def playing_upstream(chance: random.Random, context: ssl.SSLContext | None) -> AsyncIterator[tuple[Stage, str]]:
    """It, and its base URL."""
    loop, stage = asyncio.get_running_loop(), Stage(chance)
    server = await loop.create_server(lambda: Playing(stage), "127.0.0.1", 0, ssl=context, backlog=512)
    port = server.sockets[0].getsockname()[1]
    try:
        yield stage, f"https://localhost:{port}" if context else f"http://127.0.0.1:{port}"
    finally:
        server.close()
        for connection in tuple(stage.connections):
            connection.transport.abort()
        await server.wait_closed()
        while stage.connections:
            await asyncio.sleep(0)
