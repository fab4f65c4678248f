"""The bytes on the wire, and the ways to break them: raw sockets, because clients hide both."""

from __future__ import annotations

import base64
import json
import socket
import zlib
from urllib.parse import urlsplit

import pytest

from proxy.emulator.app import DEFAULT_KEY
from proxy.emulator.wire import array, compressed, in_a_line, printed, sse, wants_gzip
from tests.emulator.conftest import TEXT, Client


def _connected(base_url: str, prompt: str, verb: str = "generateContent") -> socket.socket:
    body = json.dumps({"contents": [{"parts": [{"text": prompt}]}]})
    raw = socket.create_connection((urlsplit(base_url).hostname, urlsplit(base_url).port), timeout=10)
    head = f"POST /v1/models/{TEXT}:{verb}?alt={'sse' if verb[0] == 's' else 'json'} HTTP/1.1\r\nhost: x"
    raw.sendall(f"{head}\r\nx-goog-api-key: {DEFAULT_KEY}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    return raw


def _until_closed(raw: socket.socket) -> tuple[bytes, bytes]:
    """Head and body, as they came, once the server has closed the connection."""
    with raw:
        received = b""
        while more := raw.recv(65536):
            received += more
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def _unchunked(body: bytes) -> tuple[bytes, bool]:
    """The content of a chunked body, and whether it ends as it should."""
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return content, body == b"\r\n"
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return content, False


@pytest.mark.parametrize("size", [0, 1, 100, 150_000])
def test_break_after_drops_the_connection_without_a_terminator(base_url: str, client: Client, size: int) -> None:
    head, body = _until_closed(_connected(base_url, f"[[break-after={size}]] [[text-bytes=200000]]"))
    assert head.startswith(b"HTTP/1.1 200 OK")
    content, ended = _unchunked(body)
    assert (len(content), ended) == (size, False)
    assert client.last_ended()["sent_whole"] is False


def test_break_after_falls_short_of_a_stated_length(base_url: str) -> None:
    head, body = _until_closed(_connected(base_url, "[[break-after=10]] [[length]]"))
    assert b"\r\ncontent-length: " in head
    assert b"transfer-encoding" not in head
    assert len(body) == 10


def test_a_stalled_body_says_nothing_more_and_is_not_ended(base_url: str, client: Client) -> None:
    with _connected(base_url, "[[stall=5]] [[length]]") as raw:
        received = b""
        while not received.endswith(b'\r\n\r\n{\n  "'):
            received += raw.recv(65536)
        assert client.last_billed()["sent_whole"] is None
    assert client.last_ended()["sent_whole"] is False


def test_a_length_is_stated_where_it_is_asked_for(client: Client) -> None:
    answer = client.ask("A [[length]]")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "content-length" not in client.ask("A [[length]] [[no-length]]").headers


def test_gzip_comes_unasked_where_it_is_directed(client: Client) -> None:
    with client.stream(
        "POST", f"/v1/models/{TEXT}:generateContent", json={"contents": [{"parts": [{"text": "[[gzip]]"}]}]}
    ) as r:
        raw = b"".join(r.iter_raw())
    assert r.headers["content-encoding"] == "gzip"
    assert json.loads(zlib.decompress(raw, wbits=31))["modelVersion"] == TEXT


def test_a_compressed_stream_is_flushed_after_each_event() -> None:
    pieces = sse([{"n": 1}, {"n": 2}])
    reader = zlib.decompressobj(wbits=31)
    assert [reader.decompress(piece) for piece in compressed(pieces)] == pieces
    assert reader.eof


def test_events_follow_each_other_at_the_pace_asked_for(base_url: str) -> None:
    """The first event is there while the second is still to come."""
    with _connected(base_url, "[[chunks=2]] [[chunk-delay=60]]", "streamGenerateContent") as raw:
        received = b""
        while b"data: " not in received:
            received += raw.recv(65536)
        assert received.count(b"data: ") == 1


def test_a_delay_holds_back_the_head_and_no_other_request(base_url: str, client: Client) -> None:
    with _connected(base_url, "[[delay=60]]") as raw:
        while b"delay" not in base64.b64decode(client.get("/emulator/requests").json()["entries"][-1]["body_base64"]):
            pass
        assert client.ask("hello").status_code == 200
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            raw.recv(1)


def test_json_is_printed_as_google_prints_it() -> None:
    value = {"a": [{"t": "<b>ü & 'x'"}], "e": []}
    assert printed(value) == ('{\n  "a": [\n    {\n      "t": "\\u003cb\\u003eü & \'x\'"\n    }\n  ],\n  "e": []\n}')
    assert in_a_line(value) == '{"a": [{"t": "\\u003cb\\u003eü & \'x\'"}],"e": []}'


def test_a_stream_is_framed_as_events_or_as_an_array() -> None:
    assert sse([{"n": 1}]) == [b'data: {"n": 1}\r\n\r\n']
    assert b"".join(array([{"n": 1}, {"n": 2}])) == b'[{\n  "n": 1\n}\n,\n{\n  "n": 2\n}\n]'


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"gzip, deflate", True),
        (b"br;q=1, GZIP;q=0.5", True),
        (b"gzip;q=0", False),
        (b"identity", False),
        (b"*", False),
    ],
)
def test_gzip_is_wanted_where_it_is_named(value: bytes, wanted: bool) -> None:
    assert wants_gzip([(b"accept-encoding", value)]) is wanted
    assert not wants_gzip([(b"accept", value)])
