"""Redis as the limiter sees it: there, or away. What is to reach it does, as soon as it is back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError

from proxy.limits.scripts import Command
from proxy.store.redis import Redis
from proxy.store.redis_advice import advice

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

PROBED_EVERY_S = 0.5
PROBE_KEPT_S = 60


class Link:
    """Sends commands to Redis while it is there, and keeps those that nobody waits for while it is away.

    Each of them must be known again where it arrives twice. They arrive in the order of delivery.
    """

    def __init__(
        self,
        redis: Redis,
        on_return: Callable[[], Awaitable[object]],
        owed: Callable[[], Iterable[Command]],
        on_error: Callable[[], object],
        on_spoiled: Callable[[], object],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        """`on_return` is done each time that Redis is back, before anything is sent; what it raises (RedisError) keeps
        Redis away. `owed` is asked for what is to be sent then, and has sent it with that. `on_spoiled` is called where
        a command was not carried out and never will be."""
        self.away = True
        self._redis = redis
        self._on_return = on_return
        self._owed = owed
        self._on_error = on_error
        self._on_spoiled = on_spoiled
        self._sleep = sleep
        self._queue: deque[Command] = deque()
        self._failed_project = "weighbridge"
        self.spoiled_projects: set[str] = set()
        """Projects with a key that another program wrote into, told once until Redis was away."""
        self._returning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connects; where that fails, Redis is away until it is back."""
        try:
            await self._return()
        except RedisError as error:
            self._tell(error)
            self._probe()

    async def ask(self, command: Command) -> Any:
        """Sends a command and waits for its answer. Raises RedisError; then Redis is away, unless a key is spoiled."""
        try:
            return await self._redis.ask(command.project, command.arguments, command.script)
        except RedisError as error:
            if not self.spoiled(error, command.project):
                self.lost(error, command.project)
            raise

    def deliver(self, command: Command, on_answer: Callable[[Any], object] | None = None) -> None:
        """Has a command arrive, sooner or later. `on_answer` is called where it did at once."""
        if self.away:
            self._queue.append(command)
        else:
            answered = partial(self._delivered, command, on_answer)
            self._redis.send(command.project, command.arguments, answered, command.script)

    def lost(self, error: RedisError, project: str) -> None:
        """Redis is away from now on, and will be asked again soon. All who wait for it get the error."""
        if self.away:
            return
        self.away = True
        self._failed_project = project
        self._redis.fail(error)
        self._tell(error)
        self._probe()

    async def close(self) -> None:
        """Tries once more to deliver all, and lets the connection go."""
        if self._returning:
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
        try:
            if self.away:
                await self._return()
            await self._redis.drain()
        except RedisError as error:
            log.error("limiter_left_behind", commands=len(self._queue), error=str(error), advice=advice(error))
        self.away = True  # for good: a call that still waits fails now, and must not have it come back
        await self._redis.close()

    def _delivered(self, command: Command, on_answer: Callable[[Any], object] | None, answer: Any) -> None:
        if not isinstance(answer, RedisError):
            if on_answer:
                on_answer(answer)
        elif not self.spoiled(answer, command.project):
            self._queue.append(command)  # before the others that wait, which `lost` has fail
            self.lost(answer, command.project)

    def spoiled(self, error: RedisError, project: str) -> bool:
        """Whether Redis will never carry out a command, because of what another program put into its project's key.

        That is the project's misfortune, and not Redis away: no other project must suffer for it.
        """
        if not str(error).startswith(("WRONGTYPE", "user_script:")):  # no such type; no such number
            return False
        if project not in self.spoiled_projects:
            self.spoiled_projects.add(project)
            log.error("limiter_key_spoiled", project=project, error=str(error), advice="remove that project's wb: keys")
        self._on_error()
        self._on_spoiled()
        return True

    def _tell(self, error: RedisError) -> None:
        log.error("limiter_away", error=str(error), advice=advice(error))
        self._on_error()

    def _probe(self) -> None:
        self._returning = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        told = ""
        while True:
            await self._sleep(PROBED_EVERY_S)
            try:
                await self._return()
            except RedisError:
                self._on_error()
            except Exception as error:  # whatever it is, such as a ledger that can't be read: it must be tried again
                self._on_error()
                if repr(error) != told:
                    told = repr(error)
                    log.exception("limiter_kept_away")
            else:
                log.info("limiter_back")
                return

    async def _return(self) -> None:
        """Raises RedisError where Redis isn't back."""
        await self._redis.connect()
        self.spoiled_projects.clear()
        # A write, about a key where the last one failed: a replica, a full Redis and a node that is gone refuse it.
        project = self._failed_project
        await self._redis.ask(project, ("SET", f"wb:{{{project}}}:probe", 1, "EX", PROBE_KEPT_S))
        await self._on_return()
        # What waits already, first: as long as that is in vain, no more is added to it; and of what a worker took in
        # outages, Redis knows again only the last that arrived (state.lua), so one must have arrived before the next.
        await self._send_queue()
        self._queue.extend(self._owed())
        await self._send_queue()
        # Nothing is awaited from here on: what is sent now goes before all that is sent later.
        self.away = False
        owed = [*self._queue, *self._owed()]
        self._queue.clear()
        for command in owed:
            self.deliver(command)

    async def _send_queue(self) -> None:
        sent, self._queue = tuple(self._queue), deque()
        asked = (self._redis.ask(command.project, command.arguments, command.script) for command in sent)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        failed = [
            (command, answer)
            for command, answer in zip(sent, answers, strict=True)
            if isinstance(answer, RedisError) and not self.spoiled(answer, command.project)
        ]
        self._queue.extendleft(command for command, _ in reversed(failed))
        if failed:
            # Probed there next: else each try would add what is owed to what waits.
            self._failed_project = failed[0][0].project
            raise failed[0][1]
