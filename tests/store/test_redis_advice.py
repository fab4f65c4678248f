"""What is told of an error of Redis."""

from __future__ import annotations

import pytest
from redis import exceptions

from proxy.store.redis_advice import advice


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (exceptions.AuthenticationError("WRONGPASS"), "redis_password_env"),
        (exceptions.NoPermissionError("no permissions to run 'evalsha'"), "docs/redis.md"),
        (exceptions.OutOfMemoryError("command not allowed"), "maxmemory"),
        (exceptions.ReadOnlyError("against a read only replica"), "redis+sentinel://"),
        (exceptions.BusyLoadingError("loading"), "by itself"),
        (exceptions.ClusterDownError("Hash slot not served"), "--cluster check"),
        (exceptions.MovedError("1 127.0.0.1:7000"), "--cluster check"),
        (exceptions.TimeoutError("late"), "in time"),
        (exceptions.ConnectionError("refused"), "redis_url"),
        (exceptions.ResponseError("MISCONF"), "its own log"),
    ],
)
def test_each_fault_is_told_with_what_to_do(error: exceptions.RedisError, told: str) -> None:
    assert told in advice(error)
