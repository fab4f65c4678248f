"""Reserves many calls at once, as a process: `python -m tests.contracts.asking URL WORKER CALLS KIND=LIMIT …`.

It begins when a line comes on its standard input, and prints for each limit how many were granted.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from proxy.config.redis_address import parse
from proxy.limits.interface import Hold
from proxy.limits.redis import RedisLimiter
from proxy.limits.roll import nobody
from proxy.store.redis import open_redis
from tests.contracts.fleet import budget
from tests.limits.demand import DAY, one
from tests.redis_servers import PATIENCE_S

FIRST = "worker0"
"""It tells of the rest."""


async def main(url: str, worker: str, calls: str, *limits: str) -> None:
    redis, following = (open_redis(parse(url), timeout_s=PATIENCE_S) for _ in range(2))
    rest = nobody if worker == FIRST else None
    limiter = RedisLimiter(redis, worker, lambda: time.monotonic_ns() // 10**6, following=following, rest=rest)
    await limiter.start([], lambda lease_id: None)
    assert not limiter.away
    watching = asyncio.get_running_loop().create_task(limiter.watch())
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for limit in limits:
        kind, _, value = limit.partition("=")
        holds = [Hold(budget(int(value)), 1)] if kind == "usd" else one(kind, int(value))
        asked = (limiter.reserve(f"{worker} {limit} {n}", DAY, holds) for n in range(int(calls)))
        verdicts = await asyncio.gather(*asked)
        print(sum(verdict.granted for verdict in verdicts), flush=True)
    assert not limiter.away
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await limiter.close()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
