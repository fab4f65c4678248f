"""A connection to one Redis server on which no command waits for the answers of those before it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from hashlib import sha1
from typing import Any, cast

import hiredis
from redis import exceptions
from redis.asyncio import Connection
from redis.exceptions import RedisError, ResponseError

Value = str | bytes | int
LOOKS, LOOKED_EVERY_S = 4, 0.02
"""How often a late answer is looked for before it counts as such: a turn to send, one to receive, one to read."""
OnAnswer = Callable[[Any], object]
"""Is called once, with the answer or with the RedisError in place of one; strings in it are bytes. Must not raise."""

_pack: Callable[[tuple[Value, ...]], bytes] = cast("Any", hiredis.pack_command)  # whose annotation is a slip


class Script:
    """A Lua script, called by its digest; its text is sent only where the server doesn't know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Call:
    """A command under way, about keys with the hash tag `tag`.

    With a script, `command` is what comes after EVALSHA's digest: the number of keys, keys, arguments.
    """

    __slots__ = ("command", "deadline", "on_answer", "redirects", "script", "tag")

    def __init__(
        self, tag: str, command: tuple[Value, ...], script: Script | None, on_answer: OnAnswer, deadline: float
    ) -> None:
        self.tag = tag
        self.command = command
        self.script = script
        self.on_answer = on_answer
        self.deadline = deadline
        self.redirects = 0

    def packed(self, *, by_text: bool = False) -> bytes:
        if self.script is None:
            return _pack(self.command)
        begin = ("EVAL", self.script.text) if by_text else ("EVALSHA", self.script.digest)
        return _pack(begin + self.command)


class Stream:
    """One connection to one server. What is sent in one turn of the loop leaves in one write."""

    def __init__(self, connection: Connection, on_reply: Callable[[Stream, Call, Any], object]) -> None:
        self.error: RedisError | None = None
        self._connection: Any = connection  # parts of redis-py have no annotations
        self._on_reply = on_reply
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._waiting: deque[Call] = deque()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._late: Call | None = None
        self._looks = 0
        self._tasks = [self._loop.create_task(self._write())]

    @property
    def waits(self) -> bool:
        """Whether answers are outstanding."""
        return bool(self._waiting)

    def send(self, call: Call, *, by_text: bool = False) -> None:
        if self.error:
            self._on_reply(self, call, self.error)
            return
        self._unsent.append(call.packed(by_text=by_text))
        self._waiting.append(call)
        self._wake.set()
        if self._timer is None:
            self._timer = self._loop.call_at(call.deadline, self._look_at_the_clock)

    def fail(self, error: RedisError) -> None:
        """Ends it: whoever waits for an answer gets the error."""
        if self.error:
            return
        self.error = error
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if self._timer:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            self._on_reply(self, call, error)

    @property
    def done(self) -> bool:
        """Whether the connection is let go."""
        return all(task.done() for task in self._tasks)

    async def closed(self) -> None:
        """Waits until the connection is let go."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self) -> None:
        try:
            await self._connection.connect()
            self._tasks.append(self._loop.create_task(self._read()))
            while True:
                await self._wake.wait()
                self._wake.clear()
                unsent, self._unsent = self._unsent, []
                await self._connection.send_packed_command(unsent, check_health=False)
        except RedisError as error:
            self.fail(error)
        except OSError as error:
            self.fail(exceptions.ConnectionError(str(error)))
        finally:
            await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        while True:
            try:
                answer = await self._connection.read_response()
            except RedisError as error:
                if not isinstance(error, ResponseError) or not self._connection.is_connected:
                    self.fail(error)
                    return
                answer = error
            if not self._waiting:
                self.fail(exceptions.ConnectionError("Redis answers what it wasn't asked"))
                return
            self._on_reply(self, self._waiting.popleft(), answer)

    def _look_at_the_clock(self) -> None:
        """Whether the oldest answer is late. Where this loop was held up it may lie there unread, or what was asked
        unsent: so it is late only when the loop has turned a few times more."""
        self._timer = None
        if not self._waiting:
            return
        oldest = self._waiting[0]
        if oldest.deadline > self._loop.time():
            self._timer = self._loop.call_at(oldest.deadline, self._look_at_the_clock)
        elif oldest is self._late and self._looks == LOOKS:
            self.fail(exceptions.TimeoutError("Redis did not answer in time"))
        else:
            self._looks = self._looks + 1 if oldest is self._late else 1
            self._late = oldest
            self._timer = self._loop.call_later(LOOKED_EVERY_S, self._look_at_the_clock)
