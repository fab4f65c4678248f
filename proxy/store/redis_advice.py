"""What an error of Redis says to whoever runs it: what happened, and what to do."""

from __future__ import annotations

from redis import exceptions

_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (
        exceptions.NoPermissionError,
        "its user may not do what is needed: docs/redis.md lists the commands to grant",
    ),
    (
        exceptions.AuthenticationError,
        "it asks for a password, or refuses this one: "
        "see storage.redis_password_env or redis_password_file, and the user in redis_url",
    ),
    (exceptions.OutOfMemoryError, "it is full: raise its maxmemory, or give limits a Redis of their own"),
    (exceptions.ReadOnlyError, "it is a replica: name the master in storage.redis_url, or use redis+sentinel://"),
    (exceptions.BusyLoadingError, "it is loading its data, and will be back by itself"),
    (exceptions.ClusterError, "the cluster is down: see `redis-cli --cluster check`"),
    (exceptions.RedisClusterException, "the cluster can't be used: see `redis-cli --cluster check`"),
    (exceptions.MovedError, "its cluster keeps moving keys: see `redis-cli --cluster check`"),
    (exceptions.TimeoutError, "it didn't answer in time: is it overloaded, or stopped?"),
    (exceptions.ConnectionError, "it can't be reached: does it run where storage.redis_url says?"),
)
"""The first that fits."""


def advice(error: Exception) -> str:
    """What happened, and what to do about it: for the server's log, and for `doctor`."""
    return next((what for kind, what in _ADVICE if isinstance(error, kind)), "see what it says, and its own log")
