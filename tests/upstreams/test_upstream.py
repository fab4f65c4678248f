"""An upstream puts on each request what it needs, and exactly one credential."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.gemini import calls
from proxy.upstreams.transport import Request, Response
from proxy.upstreams.upstream import Upstream

KEY = "AIzaSyUPSTREAM"


class Recorder:
    """A transport that keeps what it was given."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def send(self, request: Request, sending: Callable[[], object]) -> Response:
        self.requests.append(request)
        return None  # type: ignore[return-value]

    async def aclose(self) -> None:
        pass


async def sent(base_url: str, auth: str = "x-goog-api-key", method: str = "POST") -> Request:
    transport = Recorder()
    upstream = Upstream("google", base_url, auth, KEY, transport)
    path = b"/v1/models/m:generateContent" if method == "POST" else b"/v1/models"
    await upstream.send(calls.parse(method, path, b""), [(b"x-mine", b"1")], b"{}", 2, lambda: None)
    return transport.requests[0]


@pytest.mark.parametrize(
    ("auth", "header"),
    [("x-goog-api-key", (b"x-goog-api-key", KEY.encode())), ("bearer", (b"authorization", b"Bearer " + KEY.encode()))],
)
async def test_the_operators_credential_goes_up_once(auth: str, header: tuple[bytes, bytes]) -> None:
    request = await sent("https://example.com", auth)
    assert [field for field in request.headers if KEY.encode() in field[1]] == [header]
    assert KEY.encode() not in request.target


@pytest.mark.parametrize(
    ("base_url", "host", "target"),
    [
        (
            "https://generativelanguage.googleapis.com",
            b"generativelanguage.googleapis.com",
            b"/v1/models/m:generateContent",
        ),
        ("http://127.0.0.1:8099", b"127.0.0.1:8099", b"/v1/models/m:generateContent"),
        ("http://[::1]:8099", b"[::1]:8099", b"/v1/models/m:generateContent"),
        ("https://example.com/gemini/", b"example.com", b"/gemini/v1/models/m:generateContent"),
    ],
)
async def test_host_and_path_prefix_are_the_base_urls(base_url: str, host: bytes, target: bytes) -> None:
    request = await sent(base_url)
    assert request.headers[0] == (b"host", host)
    assert request.target == target


async def test_a_body_is_framed_by_its_length_and_a_get_by_nothing() -> None:
    assert (b"content-length", b"2") in (await sent("https://example.com")).headers
    names = [name for name, _ in (await sent("https://example.com", method="GET")).headers]
    assert b"content-length" not in names


def test_the_credential_is_not_in_the_repr() -> None:
    assert KEY not in repr(Upstream("google", "https://example.com", "bearer", KEY, Recorder()))


@pytest.mark.parametrize("auth", ["x-goog-api-key", "bearer"])
async def test_to_the_compatibility_layer_it_goes_up_as_a_bearer_whatever_the_setting(auth: str) -> None:
    transport = Recorder()
    call = calls.parse("POST", b"/v1beta/openai/embeddings", b"")
    await Upstream("google", "https://example.com", auth, KEY, transport).send(call, [], b"{}", 2, lambda: None)
    credentials = [field for field in transport.requests[0].headers if KEY.encode() in field[1]]
    assert credentials == [(b"authorization", b"Bearer " + KEY.encode())]
