"""Bodies that go up with splices made in them, from memory, a mapping or a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.gateway.intake import MAPPED_FROM, Body, Intake
from proxy.gateway.spliced import PIECE, Spliced
from proxy.gemini import edits
from proxy.gemini.edits import Splice
from tests.gateway.test_intake import comes

pytestmark = pytest.mark.anyio


async def content_of(body: Body | Spliced) -> tuple[bytes, int]:
    """What would be sent, and the largest piece of it."""
    content = body.content
    if isinstance(content, AsyncIterator):
        pieces = [bytes(piece) async for piece in content]
        return b"".join(pieces), max(map(len, pieces))
    return bytes(content), len(content)


@pytest.mark.parametrize("memory_bytes", [64 << 20, 0], ids=["memory", "file"])
@pytest.mark.parametrize("size", [100, PIECE, PIECE + 1, 300_000, MAPPED_FROM + 7])
async def test_a_body_is_spliced_wherever_it_lies(memory_bytes: int, size: int, tmp_path: Path) -> None:
    """Also where its pieces meet, as often as it is asked for, and never as a second copy of a large one."""
    whole = bytes(range(1, 251)) * (size // 250 + 1)
    whole = whole[:size]
    places = sorted({0, 60, size - 10, *(edge - 5 for edge in range(PIECE, size - 20, PIECE))})
    splices = [Splice(place, place + 10, b"gemini-nano-banana-2.1") for place in places]
    intake = Intake(tmp_path, limit=64 << 20, memory_bytes=memory_bytes, disk_kept_free=0)
    pieces = [whole[start : start + 100_000] for start in range(0, size, 100_000)]
    with await intake.take(comes(*pieces), "shop", size) as body:
        assert body.spooled == (not memory_bytes)
        spliced = Spliced(body, splices, 12 * len(splices))
        for _ in range(2):
            sent, largest = await content_of(spliced)
            assert sent == edits.spliced(whole, splices)
            assert len(sent) == spliced.length == size + len(splices) * 12
            assert largest <= PIECE + 100
        assert (await content_of(body))[0] == whole, "the body itself stays as it came"
