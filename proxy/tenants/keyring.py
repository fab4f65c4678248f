"""Whose key it is, told from memory: the data plane's view of keys and projects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import structlog

from proxy.errors import CallerErred, ProxyRefused, Reason, Refusal
from proxy.gemini import status
from proxy.store.database import Database, StoreError
from proxy.tenants.key_format import LENGTH, digest, well_formed
from proxy.tenants.key_hints import of_key
from proxy.tenants.keys import Tenant
from proxy.tenants.snapshot import NOTHING, read_snapshot
from proxy.tenants.uses import write_uses

TRUSTED_WITHOUT_DATABASE_S = 15 * 60
LONGEST_READ_S = 10
LONGEST_LOOK_UP_S = 5
"""What a call waits for the database to be asked about its key."""
BETWEEN_READS_S = 0.05
"""However many keys are made up, the database is read no more often than that."""
BETWEEN_WRITES_OF_USES_S = 60

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


class Keyring:
    """All keys, in memory. Used on one event loop.

    `known` is the way of nearly every call: a digest and a dict, about 1 us, and no await. A change made by any process
    is in force within 2 s: `watch` looks at the revision each second, and reads all keys anew when it has moved.
    """

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], int],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        disable_upstreams: Callable[[Mapping[str, int]], object] = lambda names: None,
    ) -> None:
        """`now`: Unix microseconds, by which keys expire; `monotonic`: seconds.

        `disable_upstreams` is told, at each change, which upstreams are disabled: the names, and since when.
        """
        self._database = database
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._disable_upstreams = disable_upstreams
        self._thread = ThreadPoolExecutor(1, "keyring")
        self._snapshot = NOTHING
        self._failing_since: float | None = None
        self._one_at_a_time = asyncio.Lock()
        self._next_read: asyncio.Task[None] | None = None
        self._this_read: asyncio.Task[None] | None = None  # held: a task that nobody holds may be collected
        self._read_again_at = 0.0
        self._uses: dict[str, int] = {}
        self._write_uses_at = 0.0

    @property
    def tenants(self) -> Mapping[bytes, Tenant]:
        """All that are served, by their keys' digests: the same object until one of them changes."""
        return self._snapshot.tenants

    @property
    def disabled_upstreams(self) -> Mapping[str, int]:
        """Those that the operator took out of service, and since when (Unix microseconds)."""
        return self._snapshot.disabled_upstreams

    def __repr__(self) -> str:
        return f"<Keyring {len(self._snapshot.tenants)} known, revision {self._snapshot.revision}>"

    def known(self, key: str) -> Tenant | None:
        """The key's tenant, if it is in memory and has not expired; notes its use.

        None says nothing about the key: then ask `look_up`.
        """
        if len(key) != LENGTH or not key.isascii():
            return None
        tenant = self._snapshot.tenants.get(digest(key))
        if tenant is None:
            return None
        now = self._now()
        expires_at = tenant.policy.expires_at
        if expires_at is not None and expires_at <= now:
            return None
        self._uses[tenant.key_id] = now
        return tenant

    async def authenticate(self, key: str) -> Tenant:
        """The key's tenant. Raises as `look_up` does."""
        return self.known(key) or await self.look_up(key)

    async def look_up(self, key: str) -> Tenant:
        """Asks whether anything has changed, so that a key works as soon as it is made.

        Raises CallerErred (API_KEY_INVALID: malformed, unknown, revoked, expired) and ProxyRefused (PROJECT_DISABLED,
        or STORE_UNAVAILABLE where the database can't be asked).
        """
        if not well_formed(key):
            raise _refusal(Reason.API_KEY_INVALID, key=key)
        hashed = digest(key)
        asked = True
        if hashed not in self._snapshot.tenants:
            try:
                async with asyncio.timeout(LONGEST_LOOK_UP_S):
                    await self._read_from_now()
            except TimeoutError:
                asked = False
        if tenant := self.known(key):
            return tenant
        if expired := self._snapshot.tenants.get(hashed):
            raise _refusal(Reason.API_KEY_INVALID, expired.project, key)
        if self._failing_since is not None or not asked:
            raise _refusal(Reason.STORE_UNAVAILABLE)
        if project := self._snapshot.disabled.get(hashed):
            raise _refusal(Reason.PROJECT_DISABLED, project)
        raise _refusal(Reason.API_KEY_INVALID, key=key)

    async def watch(self, interval: float = 1.0) -> None:
        """Follows changes and writes down uses, for ever: the app runs this beside its servers."""
        while True:
            await self._read_from_now()
            if self._failing_since is None and self._monotonic() >= self._write_uses_at:
                await self._write_uses()
            await self._sleep(interval)

    async def close(self) -> None:
        """Writes down the last uses, and lets the thread go."""
        await self._write_uses()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def refresh(self) -> None:
        """Takes what was changed until now, where the database can be asked."""
        await self._read_from_now()

    async def _read_from_now(self) -> None:
        """Waits for a read that begins after this call: one for all who wait. Its failure is in `_failing_since`."""
        if self._next_read is None:
            self._next_read = asyncio.get_running_loop().create_task(self._read_next())
        await asyncio.shield(self._next_read)

    async def _read_next(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            await asyncio.sleep(self._read_again_at - loop.time())
            self._this_read, self._next_read = self._next_read, None
            self._read_again_at = loop.time() + BETWEEN_READS_S
            try:
                async with asyncio.timeout(LONGEST_READ_S):
                    read = await loop.run_in_executor(self._thread, read_snapshot, self._database, self._snapshot)
            except TimeoutError:
                self._do_without(f"{self._database} did not answer in {LONGEST_READ_S} s")
            except StoreError as error:
                self._do_without(str(error))
            except Exception as error:  # whatever it is: changes must be followed after it, too
                self._do_without(repr(error))
            else:
                if read is not self._snapshot:
                    self._snapshot = read
                    self._disable_upstreams(read.disabled_upstreams)
                self._database_is_back()

    async def _write_uses(self) -> None:
        """Writes when keys were last used. What can't be written now is kept for the next time."""
        if not self._uses:
            return
        self._write_uses_at = self._monotonic() + BETWEEN_WRITES_OF_USES_S
        uses, self._uses = self._uses, {}
        try:
            async with asyncio.timeout(LONGEST_READ_S):
                await asyncio.get_running_loop().run_in_executor(self._thread, write_uses, self._database, uses)
        except asyncio.CancelledError:
            self._uses = uses | self._uses  # `close` writes them
            raise
        except Exception as error:  # whatever it is: changes must be followed after it, too
            self._uses = uses | self._uses
            log.warning("last_uses_unwritten", why=str(error) or repr(error), what="tried again in a minute")

    def _do_without(self, why: str) -> None:
        """Keeps what is known, for a while; says so once."""
        if self._failing_since is None:
            self._failing_since = self._monotonic()
            log.error("database_failing", why=why, what="known keys are served, others get 503")
        elif self._monotonic() - self._failing_since > TRUSTED_WITHOUT_DATABASE_S and self._snapshot is not NOTHING:
            self._snapshot = NOTHING
            log.error("keys_dropped", why=why, what="every call gets 503 until the database is back")

    def _database_is_back(self) -> None:
        if self._failing_since is not None:
            self._failing_since = None
            log.info("database_back", database=str(self._database))


def _refusal(reason: Reason, project: str = "", key: str = "") -> Refusal:
    refusal: Refusal
    if reason is Reason.API_KEY_INVALID:
        # Google's own words, which SDKs and people know.
        refusal = CallerErred(reason, status.API_KEY_INVALID, of_key(key))
    elif reason is Reason.PROJECT_DISABLED:
        refusal = ProxyRefused(
            reason, "The project of this key is disabled. Ask whoever runs this proxy to have it served."
        )
    else:
        message = "This key can't be checked now: the proxy's database does not answer. Try again soon."
        refusal = ProxyRefused(reason, message)
    refusal.project = project
    return refusal
