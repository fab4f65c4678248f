"""Four processes that share one Redis: together they get exactly the limit, however many ask at once."""

from __future__ import annotations

from tests.redis_servers import RedisServer
from tests.together import together

LIMITS = {"rpm": 100, "concurrency": 5, "rpd": 50, "ipm": 7, "usd_per_10min": 33, "usd": 77}


def test_four_processes_get_exactly_the_limit_together(redis_server: RedisServer) -> None:
    """Of 2,000 calls at once against each limit, as many pass as it allows: also of a budget that is new to all."""
    limits = [f"{kind}={value}" for kind, value in LIMITS.items()]
    arguments = [[redis_server.url, f"worker{number}", "500", *limits] for number in range(4)]
    told = [printed.split() for printed in together("tests.contracts.asking", arguments)]
    granted = [sum(map(int, counts)) for counts in zip(*told, strict=True)]
    assert dict(zip(LIMITS, granted, strict=True)) == LIMITS
