"""Nothing differs between what crosses and what came, but for what docs/compatibility.md lists."""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scripted import Received, Scripted, says, scripted
from tests.stand import Weighbridge, weighbridge

MODEL = "/v1beta/models/gemini-3.8-flash:"
OURS_UP = {b"host", b"accept-encoding", b"content-length", b"x-goog-api-key"}
OURS_DOWN = {b"x-weighbridge-request-id", b"transfer-encoding", b"content-length", b"connection"}
DROPPED_UP = [
    (b"Cookie", b"session=1"),
    (b"X-Goog-User-Project", b"other"),
    (b"OpenAI-Organization", b"org"),
    (b"X-Forwarded-For", b"10.0.0.1"),
    (b"Forwarded", b"for=10.0.0.1"),
    (b"TE", b"trailers"),
    (b"Accept-Encoding", b"gzip, deflate"),
]
DROPPED_DOWN = [
    (b"Set-Cookie", b"a=b"),
    (b"Alt-Svc", b'h3=":443"'),
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Keep-Alive", b"timeout=5"),
    (b"X-Leaked", b"the key is emulator-key"),
]
KEPT_UP = [
    (b"User-Agent", b"google-genai-sdk/3.4.0 gl-python/3.11.7"),
    (b"X-Goog-Api-Client", b"google-genai-sdk/3.4.0 gl-python/3.11.7"),
    (b"Accept", b"*/*"),
    (b"X-Server-Timeout", b"60"),
    (b"X-Strange", b"caf\xe9  with  spaces"),
]
KEPT_DOWN = [
    (b"Content-Type", b"application/json; charset=UTF-8"),
    (b"Vary", b"Origin"),
    (b"Vary", b"X-Origin"),
    (b"Server", b"scaffolding on HTTPServer2"),
    (b"Server-Timing", b"gfet4t7; dur=812"),
    (b"X-Gemini-Service-Tier", b"standard"),
    (b"X-Frame-Options", b"SAMEORIGIN"),
    (b"Date", b"Sat, 21 Nov 2026 12:00:00 GMT"),
]

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from("abcxyz"), children, max_size=4),
    max_leaves=12,
)
bodies = st.builds(
    lambda parts, ascii_, indent, tail: (
        json.dumps({"contents": parts}, ensure_ascii=ascii_, indent=indent) + tail
    ).encode("utf-8", "replace"),
    documents,
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sampled_from(["", "\n", " " * 70_000]),
)
pieces = st.lists(st.integers(1, 70_000), max_size=8)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    with scripted() as script:
        yield script


@pytest.fixture(scope="module")
def stand(upstream: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("bytes"), upstream.base_url) as running:
        yield running


@pytest.fixture(scope="module")
def key(stand: Weighbridge) -> bytes:
    return stand.key().encode()


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    """The body in pieces of those sizes, the rest last."""
    out = []
    for size in sizes:
        out.append(body[:size])
        body = body[size:]
    return [piece for piece in [*out, body] if piece]


def framed(head: bytes, fields: list[tuple[bytes, bytes]], body: bytes, sizes: list[int], chunked: bool) -> bytes:
    """A message as it stands on the wire."""
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body))
    lines = b"".join(b"%b: %b\r\n" % field for field in [*fields, framing])
    if chunked:
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut(body, sizes)) + b"0\r\n\r\n"
    return head + b"\r\n" + lines + b"\r\n" + body


def call(base_url: str, raw: bytes) -> tuple[h11.Response, bytes]:
    """Sends a raw request, and reads the response with h11."""
    where = urlsplit(base_url)
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    parser.send(h11.EndOfMessage())
    head, body = None, bytearray()
    with socket.create_connection((where.hostname or "", where.port or 0), 20) as connection:
        connection.sendall(raw)
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(connection.recv(65536))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return head, bytes(body)


def without(fields: list[tuple[bytes, bytes]], names: set[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in fields if name.lower() not in names]


run = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@run
@given(
    body=bodies,
    sizes=pieces,
    chunked=st.booleans(),
    verb=st.sampled_from(["generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent", "countTokens"]),
    kept=st.lists(st.sampled_from(KEPT_UP), unique_by=lambda field: field[0]),
    dropped=st.lists(st.sampled_from(DROPPED_UP), unique_by=lambda field: field[0]),
)
def test_what_goes_up_is_what_came(
    stand: Weighbridge,
    upstream: Scripted,
    key: bytes,
    body: bytes,
    sizes: list[int],
    chunked: bool,
    verb: str,
    kept: list[tuple[bytes, bytes]],
    dropped: list[tuple[bytes, bytes]],
) -> None:
    upstream.answer = says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    fields = [(b"Host", b"gateway.example"), *kept, *dropped, (b"Content-Type", b"application/json")]
    request = framed(
        f"POST {MODEL}{verb} HTTP/1.1".encode(),
        [*fields, (b"X-Goog-Api-Key", key), (b"Connection", b"close")],
        body,
        sizes,
        chunked,
    )
    answer, _ = call(stand.base_url, request)
    assert answer.status_code == 200
    up: Received = upstream.received[-1]
    assert up.body == body
    assert up.target == f"{MODEL}{verb}".encode()
    assert without(up.headers, OURS_UP) == without([*kept, (b"content-type", b"application/json")], OURS_UP)
    ours = {name: value for name, value in up.headers if name in OURS_UP}
    assert ours == {
        b"host": upstream.base_url.removeprefix("http://").encode(),
        b"accept-encoding": b"identity",
        b"content-length": b"%d" % len(body),
        b"x-goog-api-key": b"emulator-key",
    }
    assert all(key not in value for _, value in up.headers)


@run
@given(
    body=st.binary(max_size=300) | bodies.map(lambda b: b * 3),
    status=st.sampled_from([200, 200, 200, 201, 400, 404, 429, 500, 503]),
    sizes=pieces,
    chunked=st.booleans(),
    coding=st.sampled_from([None, None, "gzip", "br"]),
    verb=st.sampled_from(["generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent", "countTokens"]),
    kept=st.lists(st.sampled_from(KEPT_DOWN)),
    dropped=st.lists(st.sampled_from(DROPPED_DOWN), unique_by=lambda field: field[0]),
)
def test_what_comes_down_is_what_the_upstream_sent(
    stand: Weighbridge,
    upstream: Scripted,
    key: bytes,
    body: bytes,
    status: int,
    sizes: list[int],
    chunked: bool,
    coding: str | None,
    verb: str,
    kept: list[tuple[bytes, bytes]],
    dropped: list[tuple[bytes, bytes]],
) -> None:
    if status >= 400:
        body = body[:100_000]  # an error is read whole, so there is a bound
        coding = None if coding == "br" else coding  # one that can't be read doesn't cross: it may speak of us
    if coding == "gzip":
        packer = zlib.compressobj(wbits=31)
        body = packer.compress(body) + packer.flush()
    encoding = [(b"Content-Encoding", coding.encode())] if coding else []
    fields = [*kept, *dropped, *encoding]
    upstream.answer = says(framed(b"HTTP/1.1 %d Odd Phrase" % status, fields, body, sizes, chunked))
    request = framed(
        f"POST {MODEL}{verb} HTTP/1.1".encode(),
        [(b"Host", b"x"), (b"X-Goog-Api-Key", key), (b"Connection", b"close")],
        b"{}",
        [],
        False,
    )
    answer, came = call(stand.base_url, request)
    assert answer.status_code == status
    assert came == body
    assert without(list(answer.headers), OURS_DOWN) == without([*kept, *encoding], OURS_DOWN)
    assert b"emulator-key" not in b"".join(value for _, value in answer.headers)
