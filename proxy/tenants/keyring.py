"""Whose key it is, told from memory: the data plane's view of keys and projects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import TypeVar

import structlog
from sqlalchemy import select

from proxy.errors import CallerErred, ProxyRefused, Reason, Refusal
from proxy.gemini import status
from proxy.store.database import Database, StoreError
from proxy.store.tables import keys, projects, revision
from proxy.tenants.keys import LENGTH, Tenant, digest, well_formed

CAPACITY = 10_000
"""Keys held, and as many that were refused; beyond it the oldest go. About 4 MB when full."""
TRUSTED_WITHOUT_DATABASE_S = 15 * 60
MOST_WAITING = 1_000
"""Look-ups at once: about 0.3 s of work, so that a flood of made-up keys can't hold up `watch`."""
LONGEST_READ_S = 10

T = TypeVar("T")

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


class Keyring:
    """Knows the keys in use, and asks the database for the others. Used on one event loop.

    `known` is the way of nearly every call: a digest and a dict, about 1 us, and no await. A change made by any process
    is in force within 2 s: `watch` looks at the revision each second, and drops all that is known when it has moved.
    """

    def __init__(
        self,
        database: Database,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._sleep = sleep
        # One thread: what was read later comes back later, so that nothing old is taken for new.
        self._thread = ThreadPoolExecutor(1, "keyring")
        self._waiting = 0
        self._tenants: dict[bytes, Tenant] = {}
        self._refused: dict[bytes, Reason] = {}
        self._revision: int | None = None
        self._failing_since: float | None = None

    def __repr__(self) -> str:
        return f"<Keyring {len(self._tenants)} known, {len(self._refused)} refused, revision {self._revision}>"

    def known(self, key: str) -> Tenant | None:
        """The key's tenant, if it is in memory. None says nothing about the key: then ask `look_up`."""
        if len(key) != LENGTH or not key.isascii():
            return None
        return self._tenants.get(sha256(key.encode()).digest())

    async def authenticate(self, key: str) -> Tenant:
        """The key's tenant. Raises as `look_up` does."""
        return self.known(key) or await self.look_up(key)

    async def look_up(self, key: str) -> Tenant:
        """Asks the database, so that a key works as soon as it is made.

        Raises CallerErred (API_KEY_INVALID: malformed, unknown, revoked) and ProxyRefused (PROJECT_DISABLED, or
        STORE_UNAVAILABLE where the database can't be asked).
        """
        if not well_formed(key):
            raise _refusal(Reason.API_KEY_INVALID)
        hashed = digest(key)
        if reason := self._refused.get(hashed):
            raise _refusal(reason)
        try:
            number, answer = await self._read(partial(self._read_key, hashed))
        except StoreError as error:
            raise _refusal(Reason.STORE_UNAVAILABLE) from error
        self._arrive_at(number)
        if isinstance(answer, Reason):
            _put(self._refused, hashed, answer)
            raise _refusal(answer)
        _put(self._tenants, hashed, answer)
        return answer

    async def watch(self, interval: float = 1.0) -> None:
        """Follows changes, for ever: the app runs this beside its servers."""
        while True:
            try:
                self._arrive_at(await self._read(self._read_revision))
                if self._failing_since is not None:
                    log.info("database_back", database=str(self._database.path))
                    self._failing_since = None
            except StoreError as error:
                self._do_without(error)
            await self._sleep(interval)

    def close(self) -> None:
        """Lets the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _arrive_at(self, number: int) -> None:
        """Drops what was read at another revision. One that went back is a database restored from a backup."""
        if number != self._revision:
            self._drop()
            self._revision = number

    def _do_without(self, error: StoreError) -> None:
        """Keeps what is known, for a while; says so once."""
        if self._failing_since is None:
            self._failing_since = self._monotonic()
            log.error("database_failing", why=str(error), what="known keys are served, others get 503")
        elif self._monotonic() - self._failing_since > TRUSTED_WITHOUT_DATABASE_S and self._tenants:
            self._drop()
            log.error("keys_dropped", why=str(error), what="every call gets 503 until the database is back")

    def _drop(self) -> None:
        self._tenants.clear()
        self._refused.clear()

    async def _read(self, query: Callable[[], T]) -> T:
        """Runs a query in the thread. Raises StoreError, also where it takes too long or too many wait."""
        if self._waiting >= MOST_WAITING:
            raise StoreError("too many look-ups of keys wait for the database")
        self._waiting += 1
        try:
            async with asyncio.timeout(LONGEST_READ_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, query)
        except TimeoutError:
            raise StoreError(f"{self._database.path} did not answer in {LONGEST_READ_S} s") from None
        finally:
            self._waiting -= 1

    def _read_revision(self) -> int:
        with self._database.reading() as connection:
            number: int = connection.execute(select(revision.c.number)).scalar_one()
            return number

    def _read_key(self, hashed: bytes) -> tuple[int, Tenant | Reason]:
        """The answer, and the revision at which it holds: one statement, one moment."""
        columns = (revision.c.number, keys.c.id, keys.c.project, keys.c.name, keys.c.revoked_at, projects.c.disabled_at)
        query = select(*columns).select_from(
            revision.outerjoin(keys, keys.c.digest == hashed).outerjoin(projects, projects.c.name == keys.c.project)
        )
        with self._database.reading() as connection:
            number, key_id, project, name, revoked_at, disabled_at = connection.execute(query).one()
        if key_id is None or revoked_at is not None:
            return number, Reason.API_KEY_INVALID
        if disabled_at is not None:
            return number, Reason.PROJECT_DISABLED
        return number, Tenant(project, key_id, name)


def _put(held: dict[bytes, T], hashed: bytes, answer: T) -> None:
    if len(held) >= CAPACITY:
        del held[next(iter(held))]
    held[hashed] = answer


def _refusal(reason: Reason) -> Refusal:
    if reason is Reason.API_KEY_INVALID:
        # Google's own words, which SDKs and people know.
        return CallerErred(reason, status.API_KEY_INVALID)
    if reason is Reason.PROJECT_DISABLED:
        return ProxyRefused(
            reason, "The project of this key is disabled. Ask whoever runs this proxy to have it served."
        )
    return ProxyRefused(reason, "This key can't be checked now: the proxy's database does not answer. Try again soon.")
