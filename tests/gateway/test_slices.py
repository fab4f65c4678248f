"""However much a client sends at once, and however small its pieces: a turn of the loop takes so many steps at most."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.gateway.server import GatewayProtocol
from proxy.gateway.slices import SLICE, STEPS
from tests.gateway.test_heads import GET, POST, Echo, refused
from tests.gateway.wire import door, parse
from tests.upstreams.origin import make_security

pytestmark = pytest.mark.anyio

MOST = 2 * (STEPS + SLICE // 4 + 200)
"""Calls by the parser in one turn: those steps, one slice's, and a head's fields; twice, for the turn in which all that
has come is parsed may read the socket again."""
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\nconnection: close\r\n\r\n"


class Turns:
    """Counts the parser's calls in each turn of the loop."""

    def __init__(self) -> None:
        self.calls = self.most = self.total = self.pieces = self.reads = 0

    def watch(self, protocol: type[GatewayProtocol]) -> type[GatewayProtocol]:
        turns = self

        class Watched(protocol):  # type: ignore[misc, valid-type]
            def data_received(self, data: bytes) -> None:
                turns.reads += 1
                super().data_received(data)

            def on_header(self, name: bytes, value: bytes) -> None:
                turns.calls += 1
                super().on_header(name, value)

            def on_headers_complete(self) -> None:
                turns.calls += 1
                super().on_headers_complete()

            def on_body(self, body: bytes) -> None:
                turns.calls += 1
                turns.pieces += 1
                super().on_body(body)

        return Watched

    async def count(self) -> None:
        while True:
            self.most = max(self.most, self.calls)
            self.total += self.calls
            self.calls = 0
            await asyncio.sleep(0)


async def sent(turns: Turns, app: Any, raw: bytes, tls: Any = None) -> bytes:
    async with door(app, tls=tls, watch=turns.watch, linger_s=0.05) as gateway:
        connection = await gateway.connect()
        counting = asyncio.get_running_loop().create_task(turns.count())
        connection.writer.write(raw)
        answer = await connection.rest()
        counting.cancel()
    return answer


@pytest.mark.parametrize("over_tls", [False, True])
@pytest.mark.parametrize("size", [1, 2, 16])
async def test_a_body_in_tiny_chunks_is_read_whole_in_many_turns(size: int, over_tls: bool, tmp_path: Path) -> None:
    app, turns = Echo(), Turns()
    count = 400_000 // (size + 5)
    raw = CHUNKED + (b"%x\r\n%b\r\n" % (size, b"a" * size)) * count + b"0\r\n\r\n"
    raw += GET[:-2] + b"connection: close\r\n\r\n"
    answer = await sent(turns, app, raw, make_security(tmp_path) if over_tls else None)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert [len(body) for *_, body in app.seen] == [size * count, 0]
    assert turns.most <= MOST
    assert turns.total > 3 * MOST


FLOODS = {
    "trailer fields": (CHUNKED + b"0\r\n" + b"a:\r\n" * 60_000, 431),
    "header fields": (GET[:-2] + b"a:\r\n" * 60_000, 431),
    "requests": (GET * 10_000, 400),
    "requests of many fields": ((GET[:-2] + b"a:\r\n" * 190 + b"\r\n") * 300, 400),
    "requests with bodies": ((POST + b"content-length: 1\r\n\r\na") * 5000, 400),
    "upgrades": ((GET[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n") * 4000, 400),
    "upgrades with bodies": (
        (POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\na") * 4000,
        400,
    ),
    "empty lines": (b"\r\n" * 150_000, 431),
    "chunk extensions": (CHUNKED + b"1" + b";a=b" * 60_000, 431),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_is_refused_in_its_turn_and_takes_few_steps_of_each(flood: str) -> None:
    turns = Turns()
    raw, http = FLOODS[flood]
    answer = await sent(turns, Echo(), raw)
    assert turns.most <= MOST
    refused(answer[answer.index(b"HTTP/1.1 %d" % http) :], http)


async def test_what_stands_behind_an_upgrade_is_refused_as_anywhere() -> None:
    """The parser breaks off at an upgrade, and once more at what it is fed after it."""
    app = Echo()
    upgrade = GET[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n"
    async with door(app, pipelined=2) as gateway:
        answer = await gateway.ask(upgrade + GET[:-2] + b"a: b\r\n" * 201 + b"\r\n")
        refused(answer[answer.index(b"HTTP/1.1 431") :], 431)
        answer = await gateway.ask(upgrade * 5)
        refused(answer[answer.index(b"HTTP/1.1 400") :], 400)
    assert len(app.seen) == 4


async def test_a_body_of_known_length_is_not_cut_whatever_is_in_it() -> None:
    turns = Turns()
    body = b"[1,\n2]\n" * 150_000
    raw = POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    assert parse(await sent(turns, Echo(), raw)).body == b"ok"
    assert turns.pieces <= turns.reads


async def test_a_body_in_large_chunks_is_cut_little_more_than_its_chunks_cut_it() -> None:
    turns, app = Turns(), Echo()
    raw = CHUNKED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + (b"10000\r\n" + bytes(65536) + b"\r\n") * 16
    assert parse(await sent(turns, app, raw + b"0\r\n\r\n")).body == b"ok"
    assert len(app.seen[0][3]) == 16 * 65536
    assert turns.pieces <= 16 + 4 * turns.reads


async def test_a_client_that_stalls_after_many_tiny_chunks_is_told_so() -> None:
    """Reading goes on, and with it the time that a body has, once all that came is parsed."""
    answered: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive())["more_body"]:
                pass
        except Exception as error:
            answered.append(str(error))
            raise

    async with door(app, body_s=0.1) as gateway:
        raw = await gateway.ask(CHUNKED + b"1\r\na\r\n" * 100_000)
    assert parse(raw).status == 500
    assert answered[0].endswith(" of the request's body came for 0.1 s. Send the request again.")


async def test_a_client_that_leaves_while_its_chunks_wait_is_gone() -> None:
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass
        left.set()

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(CHUNKED + b"1\r\na\r\n" * 100_000)
        while not gateway.state.tasks:
            await asyncio.sleep(0)
        connection.writer.transport.abort()
        async with asyncio.timeout(5):
            await left.wait()
