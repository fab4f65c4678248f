"""What Redis is told of limits before a server asks it, by real ledger files."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import closing
from pathlib import Path

import pytest

from proxy.billing.ledger_file import LedgerFile
from proxy.billing.periods import Days
from proxy.billing.records import to_row
from proxy.config.limits import parse_all
from proxy.config.schema import Settings, Storage
from proxy.control import rebuild
from proxy.control.admin.limits import configured
from proxy.limiter import redis_of, tell_redis
from proxy.limits.redis import RedisLimiter
from proxy.store.database import Database, open_database
from proxy.tenants import keys, projects
from tests.billing.sample import sample
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

NOW = time.time_ns() // 1000
"""Redis has a clock of its own."""
DAY = Days("UTC").name(NOW)


@pytest.fixture
def limited(tmp_path: Path) -> Database:
    """Two projects of which one has limits, and a key of it, too."""
    database = open_database(Storage(data_dir=tmp_path))
    projects.create(database, "acme", NOW, actor="t", limits=parse_all(["rpd=9", "tpm=1000", "usd=5,per=day"]))
    projects.create(database, "free", NOW, actor="t")
    keys.create(database, "acme", "web", NOW, secrets.randbelow, actor="t", limits=parse_all(["rpd=3"]))
    return database


@pytest.fixture
def files(tmp_path: Path, limited: Database) -> dict[str, Path]:
    """Three calls of that key in one file, one of another key in a second one, all within this minute."""
    [key] = keys.list_keys(limited)
    found = {}
    for slot, key_id, count in (("0", key.id, 3), ("4", "gone", 1)):
        calls = (
            sample(f"{slot}-{n}", key_id=key_id, started_at=NOW - n, finished_at=NOW, period=DAY) for n in range(count)
        )
        with closing(LedgerFile.open(tmp_path, slot, busy_timeout_s=5, ballast_bytes=4096, random=os.urandom)) as file:
            file.commit([], [to_row(call) for call in calls], [])
            found[file.file_id] = file.path
    return found


def settings(redis_server: RedisServer) -> Settings:
    return Settings.model_validate({"storage": {"redis_url": redis_server.url}, "limits": {"timezone": "UTC"}})


async def used(database: Database, redis_server: RedisServer, worker: str, path: Path | None = None) -> dict[str, int]:
    """What a server of this worker finds, without what is money."""
    history = rebuild.history([path] if path else [], Days("UTC"), NOW, time.monotonic)
    storage = settings(redis_server).storage
    limiter = RedisLimiter(redis_of(storage), worker, lambda: time.time_ns() // 1_000_000, history)
    await limiter.start([], lambda records: {})
    counters = [one for one in configured(database, "acme", NOW).counters if not one.per]
    taken = await limiter.used(DAY, counters)
    await limiter.close()
    return {f"{'key ' if one.key_id else ''}{one.kind}": of.used for one, of in zip(counters, taken, strict=True)}


async def test_redis_knows_of_all_files_what_was_used_also_when_it_is_told_again(
    limited: Database, files: dict[str, Path], redis_server: RedisServer
) -> None:
    for _ in range(2):
        assert await tell_redis(settings(redis_server), limited, files, lambda: NOW) == 3
    assert await used(limited, redis_server, "a worker that knows nothing") == {"rpd": 4, "tpm": 28, "key rpd": 3}


async def test_the_worker_of_a_file_has_nothing_to_add(
    limited: Database, files: dict[str, Path], redis_server: RedisServer
) -> None:
    await tell_redis(settings(redis_server), limited, files, lambda: NOW)
    for worker, path in files.items():
        assert (await used(limited, redis_server, worker, path))["rpd"] == 4


async def test_of_a_redis_that_is_away_it_says_so(
    limited: Database, files: dict[str, Path], redis_server: RedisServer
) -> None:
    redis_server.stop()
    assert await tell_redis(settings(redis_server), limited, files, lambda: NOW) is None
