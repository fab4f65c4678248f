"""How long a connection is kept: for so many requests, and while the door isn't about to close."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.gateway.keep_alive import KeepAlive
from tests.gateway.test_heads import GET, POST, Echo
from tests.gateway.test_server import Held
from tests.gateway.wire import door, parse

pytestmark = pytest.mark.anyio

CLOSE = b"connection: close\r\n"


async def test_the_last_request_that_a_connection_may_carry_is_answered_with_close_and_ends_it() -> None:
    async with door(Echo(), kept=KeepAlive(requests=3)) as gateway:
        for _ in range(2):
            connection = await gateway.connect()
            for last in (False, False, True):
                connection.writer.write(GET)
                answer = await connection.response()
                assert (answer.body, b"connection" in answer.headers) == (b"ok", last)
            assert await connection.rest() == b""


async def test_of_pipelined_requests_no_more_than_a_connection_may_carry_are_answered() -> None:
    """Its client sees `close` in the last answer, and knows which to send again (RFC 9112, 9.6)."""
    app = Echo()
    async with door(app, kept=KeepAlive(requests=3)) as gateway:
        rest = await gateway.ask(GET * 10)
    assert (rest.count(b"200 OK"), rest.count(CLOSE), len(app.seen)) == (3, 1, 3)
    assert CLOSE in rest[rest.rindex(b"200 OK") :]


async def test_by_default_a_connection_carries_any_number() -> None:
    async with door(Echo()) as gateway:
        connection = await gateway.connect()
        for _ in range(300):
            connection.writer.write(GET)
            assert b"connection" not in (await connection.response()).headers


async def test_while_the_door_is_about_to_close_each_answer_is_its_connections_last() -> None:
    """Those that came before that know nothing of it; a new connection is served."""
    kept = KeepAlive()
    async with door(Echo(), kept=kept) as gateway:
        idle, used = await gateway.connect(), await gateway.connect()
        used.writer.write(GET)
        assert b"connection" not in (await used.response()).headers
        kept.leaving = True
        for connection in (used, await gateway.connect(), idle):
            connection.writer.write(POST + b"content-length: 4\r\n\r\nbody")
            answer = await connection.response()
            assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
            assert await connection.rest() == b""


@pytest.mark.parametrize("closing", [False, True])
async def test_requests_that_were_sent_ahead_are_all_answered_before_the_door_closes(closing: bool) -> None:
    """By the last answer, which says so, the connection ends; what comes later is nobody's request."""
    app, kept = Held(), KeepAlive()
    async with door(app, kept=kept) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET * 5)
        await app.arrival.wait()
        (server_side,) = gateway.state.connections
        while len(_pipelined(server_side)) < 4:
            await asyncio.sleep(0.001)
        kept.leaving = True
        if closing:
            server_side.shutdown()
            connection.writer.write(GET)
        app.go.set()
        rest = await connection.rest()
    assert (rest.count(b"200 OK"), rest.count(CLOSE), len(app.started)) == (5, 1, 5)
    assert CLOSE in rest[rest.rindex(b"200 OK") :]


def _pipelined(connection: Any) -> Any:
    return connection.pipelined


async def test_a_connection_without_a_request_is_closed_with_the_door_and_a_call_in_flight_is_not() -> None:
    app = Held()
    async with door(app) as gateway:
        idle, calling = await gateway.connect(), await gateway.connect()
        calling.writer.write(POST + b"content-length: 10\r\n\r\n12345")
        await app.arrival.wait()
        for connection in list(gateway.state.connections):
            connection.shutdown()
        assert await idle.rest() == b""
        calling.writer.write(b"67890")
        app.go.set()
        answer = parse(await calling.rest())
    assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
