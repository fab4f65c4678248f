"""Answers held until they are looked at: whole, wherever they lie; bounded; and never in the way of the call."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ProxyRefused, Reason
from proxy.gateway.images import held
from proxy.gateway.images.held import Held
from proxy.gateway.intake import Intake

pytestmark = pytest.mark.anyio


async def hold(intake: Intake, pieces: list[bytes], coding: bytes = b"") -> Held:
    answer = Held(intake.room("shop"))
    headers = [(b"content-encoding", coding)] if coding else []
    await answer.send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in pieces[:-1]:
        await answer.send({"type": "http.response.body", "body": piece, "more_body": True})
    await answer.send({"type": "http.response.body", "body": pieces[-1]})
    return answer


@pytest.mark.parametrize("memory", [0, 1 << 20])
@pytest.mark.parametrize(
    "pieces", [[b"{}"], [b"{", b"}"], [b"", b"{", b"", b"}", b""], [b"x" * 300_000, b"y" * 9, b""]]
)
async def test_an_answer_is_whole_in_memory_and_on_disk(tmp_path: Path, memory: int, pieces: list[bytes]) -> None:
    """Its last piece may be empty, as where the upstream's came in chunks."""
    intake = Intake(tmp_path, limit=9, memory_bytes=memory, disk_kept_free=0)
    answer = await hold(intake, pieces)
    assert answer.body.spooled is (memory == 0)
    assert bytes(answer.content()) == b"".join(pieces)
    assert answer.status == 200
    answer.body.close()
    assert intake.memory.taken == intake.spool.taken == 0


@pytest.mark.parametrize(("memory", "most", "reason"), [(1 << 20, 4, "UNREACHABLE"), (0, 1 << 20, "STORE")])
async def test_one_that_cannot_be_held_is_taken_to_its_end_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, most: int, reason: str
) -> None:
    """The call has to be weighed; what went wrong is told when the answer is asked for."""
    monkeypatch.setattr(held, "LARGEST", most)
    intake = Intake(tmp_path, limit=9, memory_bytes=memory, spool_bytes=8, disk_kept_free=0)
    answer = await hold(intake, [b"123", b"45", b"6", b""])
    assert answer.body.length == 3, "what follows a gap is of no use"
    with pytest.raises(ProxyRefused) as refused:
        answer.content()
    assert reason in refused.value.reason.word
    answer.body.close()


@pytest.mark.parametrize(
    ("content", "coding", "says"),
    [
        (gzip.compress(b"{}"), b"gzip", b"{}"),
        (b"{}", b"identity", b"{}"),
        (b"no gzip", b"gzip", None),
        (b"{}", b"br", None),
        (gzip.compress(bytes(1 << 20)), b"gzip", None),
    ],
)
async def test_a_coding_is_undone_within_bounds_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, coding: bytes, says: Any
) -> None:
    monkeypatch.setattr(held, "LARGEST", 1 << 16)
    answer = await hold(Intake(tmp_path, limit=9), [content], coding)
    if says is None:
        with pytest.raises(ProxyRefused, match="content coding") as refused:
            answer.content()
        assert refused.value.reason is Reason.UPSTREAM_UNREACHABLE
    else:
        assert bytes(answer.content()) == says
    answer.body.close()
