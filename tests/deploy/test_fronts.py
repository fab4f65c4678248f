"""deploy/tls: TLS in front of a real server by nginx and by Caddy, as configured there, changes nothing of a call."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from proxy.store.database import open_database
from proxy.tenants import keys
from tests.certificates import Certificate, make_certificate
from tests.deploy.fronts import COMMANDS, Front, completes_what_broke_off, running_front
from tests.scripted import Scripted, scripted
from tests.stand import Weighbridge, weighbridge

MODEL = "/v1beta/models/gemini-3.8-flash"
CLIENT, FORGED = "127.0.0.2", "192.0.2.7"
"""Where calls come from, which is no address of the proxy's; and where one may say that it came from."""
PATIENCE_S = 30
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
SSE, JSON = HEAD % b"text/event-stream", HEAD % b"application/json"
ANSWER = b'{"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2}}'
FIRST, LAST = b'data: {"candidates":[]}\r\n\r\n', b"data: " + ANSWER + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answers(connection: socket.socket) -> None:
    connection.sendall(JSON + b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)


@dataclass
class Behind:
    """A front, the server behind it, and the upstream behind that."""

    front: Front
    stand: Weighbridge
    upstream: Scripted
    certificate: Certificate
    plain: str
    """A key of a project."""
    clients: ExitStack = field(default_factory=ExitStack)
    """Their connections, to be closed when a test has ended."""

    def connect(self) -> http.client.HTTPSConnection:
        trust = ssl.create_default_context(cafile=self.certificate.path)
        source = (CLIENT, 0)
        port = self.front.port
        made = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE_S, source_address=source, context=trust)
        self.clients.callback(made.close)
        return made

    def key(self, address: str) -> str:
        """A new key that is served from this address alone."""
        database, now = open_database(self.stand.storage), time.time_ns() // 1000
        told = keys.create(database, "alice", address, now, secrets.randbelow, actor="test", addresses=(address,))
        return told[1]

    def post(self, path: str, body: object, **headers: str) -> http.client.HTTPResponse:
        """A call's answer, of which the head is read."""
        connection = self.connect()
        fields = {"x_goog_api_key": self.plain, "content_type": "application/json", **headers}
        connection.request("POST", path, body, {name.replace("_", "-"): of for name, of in fields.items() if of})
        answer = connection.getresponse()
        self.clients.callback(answer.close)
        return answer

    def logged(self) -> str:
        return "".join(file.read_text() for file in self.front.logs.rglob("*") if file.is_file())


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def fronted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp(request.param)
    certificate = make_certificate(folder)
    settings = {"server": {"trusted_proxies": ["127.0.0.1"]}}
    with scripted() as upstream, weighbridge(folder, upstream.base_url, settings) as stand:
        server = urlsplit(stand.base_url).netloc
        with running_front(request.param, folder / "front", server, certificate) as front:
            yield Behind(front, stand, upstream, certificate, stand.key())


@pytest.fixture
def behind(fronted: Behind) -> Iterator[Behind]:
    """A front that all tests share, and clients that end with a test."""
    with fronted.clients:
        yield fronted


def test_events_come_one_by_one(behind: Behind) -> None:
    """The first one is there while the upstream hasn't sent the second."""
    first_came = threading.Event()

    def streams(connection: socket.socket) -> None:
        connection.sendall(SSE + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(FIRST))
        if first_came.wait(PATIENCE_S):
            connection.sendall(chunk(LAST) + chunk(b""))

    behind.upstream.answer = streams
    answer = behind.post(f"{MODEL}:streamGenerateContent?alt=sse", b"{}")
    assert answer.read(len(FIRST)) == FIRST
    first_came.set()
    assert answer.read() == LAST


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_body_of_20_megabytes_crosses(behind: Behind, framing: str) -> None:
    behind.upstream.answer = answers
    picture = {"inlineData": {"mimeType": "image/png", "data": "QUJD" * 5_000_000}}
    body = json.dumps({"contents": [{"parts": [picture]}]}).encode()
    pieces = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
    answer = behind.post(f"{MODEL}:generateContent", body if framing == "content-length" else pieces)
    assert (answer.status, answer.read()) == (200, ANSWER)
    assert behind.upstream.received[-1].body == body


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 9999"])
def test_a_response_that_breaks_off_stays_broken_off(behind: Behind, framing: bytes) -> None:
    """It doesn't look complete to the client, whatever its framing is; but see `completes_what_broke_off`."""

    def breaks_off(connection: socket.socket) -> None:
        part = b'{"candidates":['
        connection.sendall(JSON + framing + b"\r\n\r\n" + (chunk(part) if b"chunked" in framing else part))
        connection.shutdown(socket.SHUT_RDWR)

    behind.upstream.answer = breaks_off
    looks_complete = framing.startswith(b"Transfer") and completes_what_broke_off(behind.front.kind)
    breaks = nullcontext() if looks_complete else pytest.raises((http.client.IncompleteRead, OSError))
    with breaks:
        answer = behind.post(f"{MODEL}:generateContent", b"{}")
        assert answer.status == 200
        answer.read()


def test_an_error_crosses_as_it_is(behind: Behind) -> None:
    """Google's own, with its body, where the front might have put in its own page."""

    def refuses(connection: socket.socket) -> None:
        body = b'{"error":{"code":404,"message":"no such model","status":"NOT_FOUND"}}'
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    behind.upstream.answer = refuses
    answer = behind.post(f"{MODEL}:generateContent", b"{}")
    assert (answer.status, json.loads(answer.read())["error"]["message"]) == (404, "no such model")


def test_the_clients_address_counts_and_nobody_can_make_one_up(behind: Behind) -> None:
    """server.trusted_proxies names the front: a key that is bound to an address is served from there alone."""
    behind.upstream.answer = answers
    statuses = {
        allowed: behind.post(
            f"{MODEL}:generateContent",
            b"{}",
            x_goog_api_key=behind.key(allowed),
            x_forwarded_for=FORGED,
        ).status
        for allowed in (CLIENT, FORGED)
    }
    assert statuses == {CLIENT: 200, FORGED: 403}


def test_a_path_crosses_as_it_came_and_a_key_in_it_is_not_logged(behind: Behind) -> None:
    """Also where it goes wrong, which proxies tell in detail."""
    key = behind.plain

    def hangs_up(connection: socket.socket) -> None:
        connection.close()

    path = f"{MODEL}%3AgenerateContent?key={key}"
    for behaves, status in ((answers, 200), (hangs_up, 502)):
        behind.upstream.answer = behaves
        answer = behind.post(path, b"{}", x_goog_api_key="")
        assert answer.status == status
        answer.read()
    behind.upstream.answer = answers
    assert (
        behind.post(f"{MODEL}:generateContent", b"{}", authorization=f"Bearer {key}", x_goog_api_key="").status == 200
    )
    assert "generateContent" in behind.logged()
    assert "wb_" not in behind.logged()


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_where_no_server_is_there_the_front_says_so(kind: str, tmp_path: Path) -> None:
    """With a status by which SDKs try again, and by nginx in Google's shape."""
    certificate = make_certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        server = f"127.0.0.1:{gone.getsockname()[1]}"
    with running_front(kind, tmp_path / "front", server, certificate) as front:
        trust = ssl.create_default_context(cafile=certificate.path)
        with closing(http.client.HTTPSConnection("localhost", front.port, timeout=PATIENCE_S, context=trust)) as client:
            client.request("POST", f"{MODEL}:generateContent?key=wb_secret", b"{}")
            answer = client.getresponse()
            body = answer.read()
        assert answer.status in (502, 503)
        assert kind != "nginx" or json.loads(body)["error"]["status"] == "UNAVAILABLE"
        assert "wb_secret" not in "".join(file.read_text() for file in front.logs.rglob("*") if file.is_file())
