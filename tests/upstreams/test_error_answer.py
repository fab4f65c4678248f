"""An upstream's error is read whole, in bounds; what can't be read is told from what can."""

from __future__ import annotations

import gzip

import pytest

from proxy.errors import Reason
from proxy.upstreams import error_answer
from proxy.upstreams.error_answer import MAX_BODY, ErrorAnswer
from tests.upstreams.origin import Peer, post, serving

pytestmark = pytest.mark.anyio

ERROR = b'{"error": {"code": 429, "message": "No.", "status": "RESOURCE_EXHAUSTED"}}'


async def read(head: bytes, body: bytes, length: int | None = None) -> tuple[ErrorAnswer, str]:
    """What is made of such a response; and of its connection."""

    async def script(peer: Peer) -> None:
        announced = len(body) if length is None else length
        await peer.answer(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (head, announced, body))
        if length is None:
            await peer.gone()

    async with serving(script) as origin, origin.transport() as transport:
        error = await error_answer.read(await transport.send(post()))
        return error, repr(transport).partition("[")[2]


async def test_an_error_is_read_as_it_came_and_its_connection_is_kept() -> None:
    error, connections = await read(b"429 X\r\nx-a: 1", ERROR)
    assert (error.status, error.body, error.plain, error.unfit) == (429, ERROR, ERROR, None)
    assert (b"x-a", b"1") in error.headers
    assert connections.startswith("0 busy, 1 idle")


async def test_a_compressed_error_crosses_as_it_came_and_is_read_without() -> None:
    packed = gzip.compress(ERROR)
    error, _ = await read(b"429 X\r\ncontent-encoding: gzip", packed)
    assert (error.body, error.plain, error.unfit) == (packed, ERROR, None)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
async def test_a_redirect_is_not_followed_and_its_body_not_read(status: int) -> None:
    error, _ = await read(b"%d X\r\nlocation: http://127.0.0.1:1/x" % status, b"x" * 10)
    assert (error.status, error.body, error.plain) == (status, b"", b"")
    assert error.unfit is not None
    assert error.unfit.reason is Reason.UPSTREAM_UNREACHABLE
    assert f"redirect ({status})" in error.unfit.message


@pytest.mark.parametrize(
    ("head", "body", "length", "says"),
    [
        (b"500 X", b"x" * (MAX_BODY + 1), None, f"more than {MAX_BODY} bytes"),
        (b"403 X", b"x" * 10, 100, "closed the connection in the middle"),
        (b"403 X\r\ncontent-encoding: gzip", b"no gzip", None, "content coding"),
        (b"403 X\r\ncontent-encoding: br", b"xx", None, "content coding"),
        (b"403 X\r\ncontent-encoding: gzip", gzip.compress(bytes(MAX_BODY + 1)), None, "content coding"),
    ],
    ids=["too long", "cut", "spoiled", "unknown coding", "a bomb"],
)
async def test_what_cant_be_read_whole_is_told_in_our_words(head: bytes, body: bytes, length: int, says: str) -> None:
    """It may speak of us: none of it goes down."""
    error, _ = await read(head, body, length)
    assert error.plain == b""
    assert error.unfit is not None
    assert error.unfit.reason is Reason.UPSTREAM_UNREACHABLE
    assert says in error.unfit.message


async def test_the_largest_that_is_read() -> None:
    error, _ = await read(b"500 X", b"x" * MAX_BODY)
    assert (len(error.plain), error.unfit) == (MAX_BODY, None)
