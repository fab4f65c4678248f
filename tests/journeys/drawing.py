"""OpenAI's images for journeys: pictures to send, what the emulator saw, an upstream that draws when told to."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
from PIL import Image

from proxy.billing.records import UsageRecord
from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import projects
from tests.stand import Weighbridge
from tests.upstreams.origin import Peer


def png(width: int = 64, height: int = 64, mode: str = "RGB", color: Any = "red") -> bytes:
    saved = io.BytesIO()
    Image.new(mode, (width, height), color).save(saved, "PNG")
    return saved.getvalue()


def hole(width: int = 64, height: int = 64) -> bytes:
    """A mask that is transparent everywhere."""
    return png(width, height, "RGBA", (0, 0, 0, 0))


def data_url(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def decoded(b64_json: str) -> Image.Image:
    """A picture that came, its pixels read."""
    picture = Image.open(io.BytesIO(base64.b64decode(b64_json, validate=True)))
    picture.load()
    return picture


def client(stand: Weighbridge, key: str, prefix: str = "/v1", retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=stand.base_url + prefix, max_retries=retries)


def key_of(stand: Weighbridge, project: str, *limits: str) -> str:
    """A key of a new project that has these limits."""
    now = time.time_ns() // 1000
    projects.create(open_database(stand.storage), project, now, actor="test", limits=parse_all(limits))
    return stand.key(project)


@dataclass
class Seen:
    """What a block of a test left behind."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    """Those that the emulator got."""
    billed: list[dict[str, Any]] = field(default_factory=list)
    """The emulator's own account."""
    records: list[UsageRecord] = field(default_factory=list)


@contextmanager
def seeing(stand: Weighbridge) -> Iterator[Seen]:
    """Filled on leaving."""
    seen, before = Seen(), len(stand.records())
    for log in ("requests", "account"):
        httpx2.delete(f"{stand.upstream_url}/emulator/{log}")
    yield seen
    for log, entries in (("requests", seen.requests), ("account", seen.billed)):
        answer = httpx2.get(f"{stand.upstream_url}/emulator/{log}", params={"limit": 10_000})
        entries += answer.json()["entries"]
    seen.records += stand.records()[before:]


def hold_together(seen: Seen) -> None:
    """The ledger is the emulator's account, call by call."""
    ours = sorted(
        (one.response_id or "", one.images, one.prompt_token_count or 0, one.total_token_count or 0)
        for one in seen.records
        if one.outcome != "upstream_error"
    )
    theirs = sorted(
        (one["id"], one["images"], one["usage"]["prompt_token_count"], one["usage"]["total_token_count"])
        for one in seen.billed
        if one["usage"]
    )
    assert ours == theirs


ANSWER = (
    b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"%b"}}]},'
    b'"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1120,"totalTokenCount":1129,'
    b'"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1120}]}}' % base64.b64encode(png())
)


class Easel:
    """A script for `tests.upstreams.origin`: draws as often as it is let, and knows how many it drew at once."""

    def __init__(self) -> None:
        self.arrived = self.at_once = self.most_at_once = 0
        self.let = asyncio.Semaphore(0)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.arrived += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await self.let.acquire()
            finally:
                self.at_once -= 1
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
