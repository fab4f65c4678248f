"""The stream of news in Redis, and beside it the claims of probes: all that is asked of Redis for outages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from proxy.store.redis import Redis
from proxy.store.redis_stream import Value
from proxy.upstreams import news
from proxy.upstreams.news import Entry

TAG = "@upstreams"  # a name that no project can have
NEWS = f"wb:{{{TAG}}}:news"
PROBE = f"wb:{{{TAG}}}:probe"
KEPT = 1000
"""Entries of the stream, or some more: Redis removes them by the hundred."""
KEPT_S = 26 * 3600
"""How long the stream stays after its last entry: longer than any outage."""
AT_ONCE = 100
"""Entries that are read at once."""
BLOCK_S = 2.0
"""How long Redis holds back the answer to who asks for news, while there is none."""
FOLLOW_TIMEOUT_S = BLOCK_S + 1.0


class NewsStream:
    """Everything that is awaited here raises RedisError."""

    def __init__(self, redis: Redis, following: Redis) -> None:
        """`following` is another way to the same Redis, for what blocks there: with FOLLOW_TIMEOUT_S."""
        self.last = "0-0"
        """The last entry that was read."""
        self._redis = redis
        self._following = following

    async def connect(self) -> None:
        """What is read then, begins at the beginning: the stream may be another, emptied, or of a replica that knew
        less."""
        self.last = "0-0"
        await self._redis.connect()
        await self._following.connect()
        # A write: a replica and a full Redis refuse it.
        await self._redis.ask(TAG, ("SET", PROBE, 1, "EX", 60))

    async def read(self) -> list[Entry]:
        """All entries that are there and haven't been read."""
        entries: list[Entry] = []
        while True:  # by and by: there may be a megabyte
            some = await self._redis.ask(TAG, ("XRANGE", NEWS, f"({self.last}", "+", "COUNT", AT_ONCE))
            entries += self._taken(some)
            if len(some) < AT_ONCE:
                return entries

    async def wait(self) -> list[Entry]:
        """The next entries; after a while none, if there is none."""
        options = "COUNT", AT_ONCE, "BLOCK", int(BLOCK_S * 1000)
        answer = await self._following.ask(TAG, ("XREAD", *options, "STREAMS", NEWS, self.last))
        return self._taken(answer[0][1]) if answer else []

    async def now_ms(self) -> int:
        """The time of the clock that dates entries."""
        seconds, microseconds = await self._redis.ask(TAG, ("TIME",))
        return int(seconds) * 1000 + int(microseconds) // 1000

    def send(self, fields: Sequence[Value], on_error: Callable[[RedisError], object]) -> None:
        """Adds an entry, without waiting for it. Raises nothing."""
        for command in (("XADD", NEWS, "MAXLEN", "~", KEPT, "*", *fields), ("EXPIRE", NEWS, KEPT_S)):
            self._send(command, on_error)

    async def claim(self, what: str, worker: str, ms: int) -> bool:
        """Whether nobody has claimed it, for so long."""
        return await self._redis.ask(TAG, ("SET", _claim_key(what), worker, "NX", "PX", ms)) is not None

    def unclaim(self, what: str, on_error: Callable[[RedisError], object]) -> None:
        """Ends a claim, without waiting for it. Raises nothing."""
        self._send(("DEL", _claim_key(what)), on_error)

    def fail(self, error: RedisError) -> None:
        """Gives the error to all who wait, and to all who ask before the next `connect`."""
        self._redis.fail(error)
        self._following.fail(error)

    async def drain(self) -> None:
        """Waits until what was sent has arrived."""
        await self._redis.drain()

    async def close(self) -> None:
        await self._redis.close()
        await self._following.close()

    def _send(self, command: tuple[Value, ...], on_error: Callable[[RedisError], object]) -> None:
        self._redis.send(TAG, command, lambda answer: on_error(answer) if isinstance(answer, RedisError) else None)

    def _taken(self, answer: list[Any]) -> list[Entry]:
        """Those that this version understands."""
        if not answer:
            return []
        self.last = answer[-1][0].decode()
        return [entry for entry in (news.read(*each) for each in answer) if entry]


def _claim_key(what: str) -> bytes:
    return f"{PROBE}:{what}".encode(errors="surrogatepass")
