"""Answers that are held: whole, wherever they lie and however their end comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.gateway.images.held import Held
from proxy.gateway.intake import Intake

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("memory", [1 << 20, 0], ids=["in memory", "on disk"])
@pytest.mark.parametrize("last", [b"", b"!"])
async def test_an_answer_is_there_whole_when_its_end_came(tmp_path: Path, memory: int, last: bytes) -> None:
    """Also where the last message is empty: what isn't on the disk yet goes there. Its room is given back."""
    intake = Intake(tmp_path, limit=1 << 20, memory_bytes=memory, disk_kept_free=0)
    with intake.room("shop") as body:
        held = Held(body)
        await held.send({"type": "http.response.start", "status": 200, "headers": []})
        await held.send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await held.send({"type": "http.response.body", "body": last})
        assert (held.status, bytes(held.content())) == (200, b"hello" + last)
        assert (intake.memory.taken, intake.spool.taken).count(0) == 1
    assert (intake.memory.taken, intake.spool.taken) == (0, 0)
