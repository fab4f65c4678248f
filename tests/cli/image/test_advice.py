"""Each way to get no answer, over real sockets, and each kind of error: what to do is said."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from proxy.cli.image import advice
from proxy.cli.image.advice import Told
from proxy.cli.image.target import Target
from tests.certificates import make_certificate, server_context
from tests.scripted import listening

KEY = "wb_" + "0" * 38


def asked(base_url: str, **options: float) -> str:
    """What is told where a call, and the check, come to nothing: they speak by two transports."""
    timeout, target = httpx2.Timeout(30, **options), Target(base_url, KEY, google=False)

    async def call() -> None:
        async with httpx2.AsyncClient(timeout=timeout) as http:
            await http.get(base_url)

    with pytest.raises(httpx2.HTTPError) as checked:
        httpx2.get(base_url, timeout=timeout)
    with pytest.raises(httpx2.HTTPError) as called:
        asyncio.run(call())
    told = [advice.unreachable(target, error.value) for error in (checked, called)]
    assert told[0].rpartition("): ")[2] == told[1].rpartition("): ")[2], told
    return told[0]


@contextmanager
def speaking_tls(context: ssl.SSLContext) -> Iterator[str]:
    """A server that shakes hands, and closes."""

    def converse(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            connection.close()

    with listening(converse) as url:
        yield url


def test_nobody_listens() -> None:
    told = asked("http://127.0.0.1:1")
    assert told.startswith("http://127.0.0.1:1 can't be reached (")
    assert "nothing listens there. Is the port right, and does `weighbridge serve` run there?" in told


def test_a_name_that_nobody_has() -> None:
    assert "no such host is known. Is its name spelled right" in asked("http://no-such-host.invalid")


def test_a_certificate_of_an_unknown_authority(tmp_path: Path) -> None:
    with speaking_tls(server_context(make_certificate(tmp_path, "127.0.0.1"))) as url:
        told = asked(url.replace("http:", "https:"))
    assert "its certificate isn't trusted (self-signed certificate)" in told
    assert "SSL_CERT_FILE" in told


def test_https_where_http_is_spoken_and_the_reverse(tmp_path: Path) -> None:
    def answers(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(answers) as url:
        assert f"Write it with http: {url}" in asked(url.replace("http:", "https:"))
    with speaking_tls(server_context(make_certificate(tmp_path, "127.0.0.1"))) as url:
        told = asked(url)
    assert f"Does it speak TLS? Then write it with https: {url.replace('http:', 'https:')}" in told


def test_an_answer_that_does_not_come_may_still_be_billed() -> None:
    asked_once = threading.Event()

    def never(connection: socket.socket) -> None:
        with connection:
            asked_once.wait(30)

    with listening(never) as url:
        told = asked(url, read=0.1)
        asked_once.set()
    assert "no answer came in time. It may still be drawing, and be billed" in told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"status": "NOT_FOUND", "message": "m"}}, Told("NOT_FOUND", "m", "", ours=False)),
        ({"error": {"code": "model_not_found", "message": "m"}}, Told("model_not_found", "m", "", ours=False)),
        (
            {"error": {"status": "X", "message": "m", "details": [{}, {"reason": "R", "domain": "weighbridge"}]}},
            Told("X", "m", "R", ours=True),
        ),
        ({"error": {"code": 404, "message": "m"}}, None),
        ({"error": "m"}, None),
        ([], None),
        (None, None),
    ],
)
def test_errors_are_read_in_either_shape(body: object, told: Told | None) -> None:
    assert advice.of_error(body) == told


@pytest.mark.parametrize(
    ("told", "http", "key", "says"),
    [
        (Told("X", "m", "API_KEY_INVALID", ours=True), 400, KEY, "`weighbridge key list` shows which keys there are"),
        (
            Told("X", "m", "API_KEY_INVALID", ours=True),
            400,
            "AIzaxyz",
            "the key is Google's, and this is a Weighbridge",
        ),
        (Told("X", "m", "API_KEY_INVALID", ours=False), 400, KEY, "copy the key anew; https://aistudio.google.com"),
        (Told("X", "m", "MODEL_NOT_ALLOWED", ours=True), 403, KEY, ""),
        (Told("X", "m", "NO_UPSTREAM", ours=True), 503, KEY, "`weighbridge upstreams`"),
        (Told("X", "m", "", ours=False), 400, KEY, "look at --model, --size and --aspect"),
        (Told("X", "m", "", ours=False), 404, KEY, "ask for another --model"),
        (Told("X", "m", "", ours=False), 429, KEY, "midnight in Los Angeles"),
        (Told("X", "m", "", ours=False), 503, KEY, "overloaded"),
        (Told("moderation_blocked", "m", "", ours=False), 400, KEY, ""),
        (Told("X", "m", "", ours=False), 418, KEY, "--check` looks at everything"),
    ],
)
def test_each_error_has_its_next_step(told: Told, http: int, key: str, says: str) -> None:
    step = advice.next_step(told, http, Target("http://h", key, google=False))
    assert says in step
    assert bool(says) == bool(step)


def test_the_proxys_own_hint_goes_before_ours() -> None:
    response = httpx2.Response(404, headers={"x-weighbridge-hint": "Ask for gemini-3-pro-image."})
    body = {"error": {"status": "NOT_FOUND", "message": "no such\nmodel"}}
    said = advice.sentence(response, body, Target("http://h", KEY, google=False))
    assert said == "NOT_FOUND: no such model. What to do: Ask for gemini-3-pro-image."
