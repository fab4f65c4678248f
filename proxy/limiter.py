"""Opens what counts limits: memory, or the Redis that the configuration names, beginning with what the ledger knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.billing import shipping
from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.config import redis_address
from proxy.config.schema import Settings, Storage
from proxy.control import rebuild
from proxy.control.admin.limits import configured
from proxy.limits.interface import Counter, Limiter, of_upstream
from proxy.limits.memory import MemoryLimiter
from proxy.store.database import Database
from proxy.telemetry.metrics import Metrics
from proxy.tenants.projects import list_projects

if TYPE_CHECKING:
    from proxy.store.redis import Redis


async def open_limiter(
    settings: Settings,
    database: Database,
    ledger: Ledger,
    orphans: Mapping[Path, str] | None,
    metrics: Metrics,
    now_us: Callable[[], int],
) -> Limiter:
    """Limits in Redis, where the configuration names one, else in memory: beginning with what the ledger knows.

    `orphans`: ledger files of this data_dir that nobody writes, which are closed out, with their ids; None in a worker,
    as the control process speaks for them. Raises LedgerUnusable, StoreError.
    """
    storage, days, now = settings.storage, Days(settings.limits.timezone), now_us()
    disk = rebuild.OnDisk(storage.data_dir, days, now_us) if orphans is not None else None
    shared = rebuild.Shipped(database, days, now_us) if disk and database.postgresql else None
    if not storage.redis_url:
        return _in_memory(ledger, orphans or {}, (disk, shared), days, now)
    # Imported here: commands, and servers without Redis, do without its 7 MB and its tenth of a second.
    from proxy.limits.redis import RedisLimiter
    from proxy.limits.roll import FOLLOW_TIMEOUT_S

    own = [ledger.path]
    limiter = RedisLimiter(
        redis_of(storage),
        ledger.file_id,
        _steady_ms(),
        rebuild.history(own, days, now, time.monotonic),
        rebuild.spent(own, days, now),
        following=redis_of(storage, FOLLOW_TIMEOUT_S),
        rest=disk,
        shared=shared,
        others=shipping.live(database) - {ledger.file_id} if database.postgresql else (),
        on_down=settings.limits.on_redis_down,
        on_error=metrics.limiter_errors.inc,
    )
    holders = [project.name for project in list_projects(database)]
    holders += [of_upstream(upstream.name) for upstream in settings.upstreams]
    await limiter.start(holders, rebuild.settled(own))
    for path, file_id in (orphans or {}).items():
        await limiter.end_left_by(file_id, holders, rebuild.settled([path]))
    return limiter


async def tell_redis(
    settings: Settings, database: Database, files: Mapping[str, Path], now_us: Callable[[], int]
) -> int | None:
    """Has Redis know what ledger files, by their ids, have counted of the limits of projects and keys.

    Else each worker says so when it meets a limit for the first time, and another may have let in calls before. Budgets
    don't need it: nobody is let in before all have said what they spent. Told again, nothing counts twice. Returns of
    how many limits something is used; None: Redis is away. Raises LedgerUnusable, StoreError.
    """
    from proxy.limits.redis import RedisLimiter

    days, now, used = Days(settings.limits.timezone), now_us(), set[Counter]()
    limited = [
        [one for one in configured(database, project.name, now).counters if not one.per]
        for project in list_projects(database)
    ]
    for file_id, path in files.items():
        history = rebuild.history([path], days, now, time.monotonic)
        limiter = RedisLimiter(redis_of(settings.storage), file_id, _steady_ms(), history)
        try:
            await limiter.start([], lambda records: {})
            for counters in filter(None, limited):
                taken = await limiter.used(days.name(now), counters)
                used.update(one for one, of in zip(counters, taken, strict=True) if of.used)
            if limiter.away:
                return None
        finally:
            await limiter.close()
    return len(used)


def _in_memory(
    ledger: Ledger,
    orphans: Mapping[Path, str],
    rests: Iterable[rebuild.OnDisk | rebuild.Shipped | None],
    days: Days,
    now: int,
) -> MemoryLimiter:
    """The only process that counts: whatever was spent, it alone remembers it."""
    own = [ledger.path]
    spent = list(rebuild.spent(own, days, now))
    known = {ledger.file_id}
    for rest in rests:
        for file_id, of_file in (rest(None, known) if rest else {}).items():
            spent += of_file
            known.add(file_id)
    return MemoryLimiter(_steady_ms(), rebuild.history([*own, *orphans], days, now, time.monotonic), spent)


def redis_of(storage: Storage, timeout_s: float | None = None) -> Redis:
    from proxy.store.redis import TIMEOUT_S, open_redis

    password = storage.redis_password.get_secret_value() if storage.redis_password else None
    address = redis_address.parse(storage.redis_url)
    return open_redis(address, password, storage.redis_ca_file, timeout_s or TIMEOUT_S)


def _steady_ms() -> Callable[[], int]:
    """A clock in Unix milliseconds that nobody sets: minutes are counted by it."""
    ahead = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + ahead) // 1_000_000
