"""What a request's head may be, seen from a client: all else is refused in Google's shape, and nothing is read on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.errors import Reason
from proxy.gateway.heads import Unacceptable, split_target
from proxy.gateway.keep_alive import KeepAlive
from proxy.gemini.status import refusal_body
from tests.gateway.wire import Door, door, parse

pytestmark = pytest.mark.anyio

GET = b"GET /one HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /one HTTP/1.1\r\nhost: x\r\n"


class Echo:
    """Answers 200 with what it was asked, and keeps a list of the requests that it saw whole."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.seen.append((scope["method"], scope["raw_path"], scope["query_string"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def refused(raw: bytes, http: int, reason: str = "BAD_REQUEST") -> str:
    """Checks the one response of a refused connection; gives its message."""
    response = parse(raw)
    error = json.loads(response.body)["error"]
    assert (response.status, error["code"], error["status"]) == (http, http, "INVALID_ARGUMENT")
    assert error["details"][0]["domain"] == "weighbridge"
    assert error["details"][0]["reason"] == reason
    assert response.headers[b"x-weighbridge-refused"] == reason.encode()
    assert response.headers[b"x-weighbridge-request-id"].startswith(b"request-")
    assert response.headers[b"connection"] == b"close"
    return str(error["message"])


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /a\x01 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET ftp://x/a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/0.9\r\nhost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x, y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x/y\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: a@x\r\n\r\n",
        b"GET http://a:b@x/ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\nhost: x\n\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\nc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n: c\r\n\r\n",
        POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\nab",
        POST + b"content-length: 2, 2\r\n\r\nab",
        POST + b"content-length: +2\r\n\r\nab",
        POST + b"content-length: 99999999999999999999\r\n\r\nab",
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_a_head_that_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(raw: bytes) -> None:
    app = Echo()
    async with door(app) as gateway:
        refused(await gateway.ask(raw + GET), 400)
    assert app.seen == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"fffffffffffffffff\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na0\r\n\r\n",
        b";x\r\n",
        b"1;\n\x01\r\na\r\n",
        b"1\r\na\r\n0\r\ncontent-length: 4\r\n\r\n",
        b"1\r\na\r\n0\r\nbad trailer: 4\r\n\r\n",
    ],
)
async def test_a_bad_chunk_is_answered_400_and_the_app_learns_that_no_more_will_come(chunks: bytes) -> None:
    app = Echo()
    async with door(app) as gateway:
        refused(await gateway.ask(POST + b"transfer-encoding: chunked\r\n\r\n" + chunks + GET), 400)
    assert app.seen == []


async def drip(gateway: Door, start: bytes, piece: bytes) -> bytes:
    """Sends `piece` for ever; gives what the server answered meanwhile."""
    connection = await gateway.connect()
    connection.writer.write(start)
    answer = asyncio.get_running_loop().create_task(connection.rest())
    for _ in range(10_000):
        if answer.done():
            break
        connection.writer.write(piece)
        await connection.writer.drain()
        await asyncio.sleep(0)
    assert answer.done(), "30 MB went in unanswered"
    return await answer


@pytest.mark.parametrize(
    ("start", "piece", "http"),
    [
        (b"GET /", b"a" * 3000, 414),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: ", b"a" * 3000, 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a" * 3000, 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n" * 10, 431),
        (b"", b"\r\n" * 1000, 431),
        (POST + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 3000, 431),
        (POST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\na: ", b"a" * 3000, 431),
        (POST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"a: b\r\n" * 1000, 431),
    ],
)
async def test_what_never_ends_is_refused_while_it_comes(start: bytes, piece: bytes, http: int) -> None:
    app = Echo()
    async with door(app) as gateway:
        refused(await drip(gateway, start, piece), http)
    assert app.seen == []


@pytest.mark.parametrize(
    ("raw", "http"),
    [
        (b"GET /" + b"a" * (16 * 1024 - 1) + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 200),
        (b"GET /" + b"a" * (16 * 1024) + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (GET[:-2] + b"a: b\r\n" * 198 + b"connection: close\r\n\r\n", 200),
        (GET[:-2] + b"a: b\r\n" * 200 + b"\r\n", 431),
        (GET[:-2] + b"a: " + b"b" * 65_000 + b"\r\nconnection: close\r\n\r\n", 200),
        (GET[:-2] + b"a: " + b"b" * 65_536 + b"\r\n\r\n", 431),
        (GET[:-2] + b"a: " + b"b" * 65_496 + b"\r\nc: d\r\n\r\n", 431),
    ],
)
async def test_a_head_in_one_piece_is_held_to_its_bounds_exactly(raw: bytes, http: int) -> None:
    async with door(Echo()) as gateway:
        assert parse(await gateway.ask(raw)).status == http


async def test_a_head_that_does_not_come_to_its_end_in_time_is_answered_408() -> None:
    async with door(Echo(), head_s=0.05) as gateway:
        message = refused(await gateway.ask(GET[:-2]), 408, "REQUEST_TIMEOUT")
    assert "0.05 s" in message


async def test_bytes_that_trickle_in_do_not_give_a_head_more_time() -> None:
    async with door(Echo(), head_s=0.1) as gateway:
        connection = await gateway.connect()
        answer = asyncio.get_running_loop().create_task(connection.rest())
        connection.writer.write(GET[:-2] + b"a: ")
        while not answer.done():
            connection.writer.write(b"a")
            await asyncio.wait([answer], timeout=0.01)
        refused(await answer, 408, "REQUEST_TIMEOUT")


@pytest.mark.parametrize(
    ("raw", "reason", "http"),
    [
        (b"BAD \x00", Reason.BAD_REQUEST, 400),
        (GET[:-2] + b"a: " + b"b" * 70_000 + b"\r\n\r\n", Reason.BAD_REQUEST, 431),
        (GET[:-2], Reason.REQUEST_TIMEOUT, 408),
    ],
)
async def test_a_refusal_before_the_app_is_told_once_with_the_id_that_its_answer_bears(
    raw: bytes, reason: Reason, http: int
) -> None:
    async with door(Echo(), head_s=0.05) as gateway:
        response = parse(await gateway.ask(raw))
        ((refusal, request_id),) = gateway.refused
    assert (refusal.reason, response.status) == (reason, http)
    assert refusal.message == json.loads(response.body)["error"]["message"]
    assert response.headers[b"x-weighbridge-request-id"] == request_id.encode()


async def test_what_the_protocol_refuses_looks_like_every_refusal_of_ours() -> None:
    async with door(Echo()) as gateway:
        response = parse(await gateway.ask(b"BAD \x00"))
        ((refusal, _),) = gateway.refused
    assert response.body == refusal_body(refusal, "single")


async def test_a_connection_that_never_sends_anything_is_closed_without_a_word() -> None:
    async with door(Echo(), head_s=0.05) as gateway:
        assert await gateway.ask(b"") == b""


async def test_a_connection_is_kept_for_the_time_that_was_configured_after_a_response() -> None:
    async with door(Echo(), kept=KeepAlive(0)) as gateway:
        assert parse(await gateway.ask(GET)).body == b"ok"


async def test_ordinary_heads_reach_the_app_as_they_came() -> None:
    app = Echo()
    async with door(app) as gateway:
        connection = await gateway.connect()
        for raw in (
            b"GET /a%20b?c=%41 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://x/abs?q HTTP/1.1\r\nHost: x\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\r\nGET /dup HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2 \t\r\n\r\n",
            POST + b"Transfer-Encoding: Chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: dropped\r\n\r\n",
            POST + b"Content-Length: 5\r\n\r\nabcde",
        ):
            connection.writer.write(raw)
            assert (await connection.response()).status == 200
    assert app.seen == [
        ("GET", b"/a%20b", b"c=%41", b""),
        ("GET", b"/abs", b"q", b""),
        ("OPTIONS", b"*", b"", b""),
        ("GET", b"/dup", b"", b""),
        ("POST", b"/one", b"", b"abcde"),
        ("POST", b"/one", b"", b"abcde"),
    ]


async def test_header_names_are_lower_cased_and_values_stripped_and_trailers_are_not_headers() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(list(scope["headers"]))
        await Echo()(scope, receive, send)

    async with door(app) as gateway:
        raw = (
            POST
            + b"A: 1\r\na:  2 \t\r\nTE: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\nT: y\r\n\r\n"
        )
        await gateway.ask(raw)
    assert scopes == [
        [
            (b"host", b"x"),
            (b"a", b"1"),
            (b"a", b"2"),
            (b"te", b"x"),
            (b"transfer-encoding", b"chunked"),
            (b"connection", b"close"),
        ]
    ]


def test_a_target_is_decoded_once() -> None:
    assert split_target("GET", b"/v1/models%2Fa%2525?b=%2F?") == (b"/v1/models%2Fa%2525", "/v1/models/a%25", b"b=%2F?")
    with pytest.raises(Unacceptable, match="absolute path"):
        split_target("GET", b"*")
