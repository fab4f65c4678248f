"""Four processes that share one Redis: together they get exactly the limit, however many ask at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.redis_servers import RedisServer

ROOT = Path(__file__).parent.parent.parent
LIMITS = {"rpm": 100, "concurrency": 5, "rpd": 50, "ipm": 7, "usd_per_10min": 33}


def test_four_processes_get_exactly_the_limit_together(redis_server: RedisServer) -> None:
    """Of 2,000 calls at once against each limit, as many pass as it allows."""
    command = [sys.executable, "-m", "tests.contracts.asking", redis_server.url]
    limits = [f"{kind}={value}" for kind, value in LIMITS.items()]
    started = [
        subprocess.Popen(
            [*command, f"worker{number}", "500", *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(4)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=60)[0].split() for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    granted = [sum(map(int, counts)) for counts in zip(*told, strict=True)]
    assert dict(zip(LIMITS, granted, strict=True)) == LIMITS
