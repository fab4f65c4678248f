"""Opens what counts limits: memory, or the Redis that the configuration names, beginning with what the ledger knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.reports import ledger_files
from proxy.config import redis_address
from proxy.config.schema import Settings, Storage
from proxy.control import rebuild
from proxy.limits.interface import Limiter, of_upstream
from proxy.limits.memory import MemoryLimiter
from proxy.store.database import Database
from proxy.telemetry.metrics import Metrics
from proxy.tenants.projects import list_projects

if TYPE_CHECKING:
    from proxy.store.redis import Redis


async def open_limiter(
    settings: Settings, database: Database, ledger: Ledger, metrics: Metrics, now_us: Callable[[], int]
) -> Limiter:
    """Limits in Redis, where the configuration names one, else in memory: beginning with what the ledger knows."""
    storage, files = settings.storage, ledger_files(settings.storage.data_dir)
    days, now = Days(settings.limits.timezone), now_us()
    history, spent = rebuild.history(files, days, now, time.monotonic), rebuild.spent(files, days, now)
    if not storage.redis_url:
        return MemoryLimiter(_steady_ms(), history, spent)
    # Imported here: commands, and servers without Redis, do without its 7 MB and its tenth of a second.
    from proxy.limits.redis import RedisLimiter
    from proxy.limits.roll import FOLLOW_TIMEOUT_S

    limiter = RedisLimiter(
        redis_of(storage),
        ledger.file_id,
        _steady_ms(),
        history,
        spent,
        following=redis_of(storage, FOLLOW_TIMEOUT_S),
        on_down=settings.limits.on_redis_down,
        on_error=metrics.limiter_errors.inc,
    )
    projects = [project.name for project in list_projects(database)]
    upstreams = [of_upstream(upstream.name) for upstream in settings.upstreams]
    await limiter.start([*projects, *upstreams], rebuild.settled(files))
    return limiter


def redis_of(storage: Storage, timeout_s: float | None = None) -> Redis:
    from proxy.store.redis import TIMEOUT_S, open_redis

    password = storage.redis_password.get_secret_value() if storage.redis_password else None
    address = redis_address.parse(storage.redis_url)
    return open_redis(address, password, storage.redis_ca_file, timeout_s or TIMEOUT_S)


def _steady_ms() -> Callable[[], int]:
    """A clock in Unix milliseconds that nobody sets: minutes are counted by it."""
    ahead = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + ahead) // 1_000_000
