"""Reserves many calls at once, as a process: `python -m tests.contracts.asking URL WORKER CALLS KIND=LIMIT …`.

It begins when a line comes on its standard input, and prints for each limit how many were granted.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from proxy.config.redis_address import parse
from proxy.limits.redis import RedisLimiter
from proxy.store.redis import open_redis
from tests.limits.demand import DAY, one
from tests.redis_servers import PATIENCE_S


async def main(url: str, worker: str, calls: str, *limits: str) -> None:
    limiter = RedisLimiter(open_redis(parse(url), timeout_s=PATIENCE_S), worker, lambda: time.time_ns() // 1_000_000)
    await limiter.start([], lambda lease_id: None)
    assert not limiter.away
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for limit in limits:
        kind, _, value = limit.partition("=")
        asked = (limiter.reserve(f"{worker} {limit} {n}", DAY, one(kind, int(value))) for n in range(int(calls)))
        verdicts = await asyncio.gather(*asked)
        print(sum(verdict.granted for verdict in verdicts), flush=True)
    assert not limiter.away
    await limiter.close()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
