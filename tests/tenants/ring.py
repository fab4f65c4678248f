"""A keyring on a real database, with a clock that the test moves: what tests of it share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from sqlalchemy import Engine, event

from proxy.errors import Refusal
from proxy.store.database import Database
from proxy.tenants import keys
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant


class Clock:
    """Time that passes when a watcher sleeps; each `tick` lets `watch` look once more."""

    def __init__(self) -> None:
        self.time = 0.0
        self.now = 10
        """Unix microseconds."""
        self.slept = asyncio.Semaphore(0)
        self.wake = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept.release()
        await self.wake.acquire()

    async def tick(self) -> None:
        self.wake.release()
        await self.slept.acquire()


@asynccontextmanager
async def watching(keyring: Keyring, clock: Clock) -> AsyncIterator[None]:
    """`watch` runs, and has looked once."""
    task = asyncio.get_running_loop().create_task(keyring.watch())
    await clock.slept.acquire()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@contextmanager
def queries() -> Iterator[list[str]]:
    """The statements that the database is asked meanwhile."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def key_of(database: Database, name: str = "notebook") -> tuple[Tenant, str]:
    key, secret = keys.create(database, "alice", name, 5, secrets.randbelow, actor="test")
    return Tenant("alice", key.id, name), secret


async def refusal(keyring: Keyring, key: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await keyring.authenticate(key)
    assert not key or key not in repr(caught.value)
    return caught.value
