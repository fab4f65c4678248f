"""Calls against limits: a key of a limited project, many calls at once, an upstream that answers when told to."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import httpx2

from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import projects
from tests.journeys.watching import TEXT, body, until
from tests.stand import Weighbridge
from tests.upstreams.origin import Peer

AT_ONCE = 2000
ASK = TEXT + "generateContent"


ANSWER = (
    b'{"candidates":[{"content":{"parts":[{"text":"Hello."}]},"finishReason":"STOP"}],'
    b'"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2,"totalTokenCount":11}}'
)


class Held:
    """A script for `tests.upstreams.origin`: answers when it is released."""

    def __init__(self) -> None:
        self.arrived = 0
        self.release = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.arrived += 1
            await self.release.wait()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))


def with_limits(stand: Weighbridge, *limits: str) -> str:
    """A key of a new project that has these limits."""
    database, now = open_database(stand.storage), time.time_ns() // 1000
    projects.create(database, "alice", now, actor="test", limits=parse_all(limits))
    return stand.key()


def limits_told(stand: Weighbridge, project: str = "alice") -> dict[str, Any]:
    """What a server that runs says of a project's limits: `limits show` asks it the same."""
    headers = {"authorization": f"Bearer {(stand.data_dir / 'admin-token').read_text().strip()}"}
    answer = httpx2.get(f"{stand.admin_url}/admin/v1/projects/{project}/limits", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def used(stand: Weighbridge) -> dict[str, int]:
    """What is used of alice's limits, by kind."""
    return {limit["kind"]: limit["used"] for limit in limits_told(stand)["limits"]}


async def call_at_once(stand: Weighbridge, key: str, path: str, asked: Any, count: int = AT_ONCE) -> list[int]:
    """The HTTP status of each of so many calls, each on a connection of its own; 0 where it was broken off."""
    answers = await asyncio.gather(*(call_once(stand.base_url, key, path, asked) for _ in range(count)))
    return [int(answer[9:12] or 0) for answer in answers]


async def call_once(base_url: str, key: str, path: str, asked: Any) -> bytes:
    """The answer, head and body; nothing where it was broken off before it began."""
    where, content = urlsplit(base_url), json.dumps(asked).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {where.netloc}\r\nx-goog-api-key: {key}\r\ncontent-type: application/json\r\n"
        f"connection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(head.encode() + content)
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def went_up(upstream: str) -> int:
    return len(httpx2.get(f"{upstream}/emulator/account", params={"limit": 10_000}).json()["entries"])


async def kill_frees_the_places(stand: Weighbridge, slow: Held) -> None:
    """`slow` is behind it, and it isn't started yet. Killed with 50 calls in flight: each is `unsettled`, once; its
    place is free with the next start, and the day has counted it."""
    key = with_limits(stand, "concurrency=50", "rpd=60")
    stand.start()
    calling = asyncio.get_running_loop().create_task(call_at_once(stand, key, ASK, body("hello"), 50))
    await asyncio.to_thread(until, lambda: slow.arrived == 50, "50 calls in flight")
    await asyncio.to_thread(stand.stop, signal.SIGKILL)
    assert await calling == [0] * 50
    slow.release.set()
    await asyncio.to_thread(stand.start)
    assert Counter(await call_at_once(stand, key, ASK, body("hello"), 20)) == {200: 10, 429: 10}
    assert Counter(record.outcome for record in stand.records()) == {"unsettled": 50, "ok": 10}
