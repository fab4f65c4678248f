"""The one way to Redis: a server, the one that sentinels name, or the nodes of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.asyncio import Connection, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError

from proxy.config.redis_address import RedisAddress
from proxy.store.redis_stream import Call, OnAnswer, Script, Stream, Value

TIMEOUT_S = 1.0
"""What a command gets until its answer is here, connecting included."""
MOST_REDIRECTS = 5

Place = tuple[str, int]
Locate = Callable[[], Awaitable[Callable[[str], Place]]]
"""Asks where the servers are; what it returns says by the hash tag of a key which of them holds it."""


class Redis:
    """Redis, wherever it is. Commands that are sent for one hash tag are carried out in the order of sending.

    When a connection fails, all that was sent on it is answered with the error. One that was closed while nobody waited
    for an answer, as servers do with idle ones, is opened again with the next command.
    """

    def __init__(
        self, locate: Locate, connection: Callable[[str, int], Connection], timeout_s: float = TIMEOUT_S
    ) -> None:
        self._locate = locate
        self._connection = connection
        self.timeout_s = timeout_s
        self._place: Callable[[str], Place] | None = None
        self._streams: dict[Place, Stream] = {}
        self._ended: list[Stream] = []
        self.scripts: tuple[Script, ...] = ()
        """What each server is given before anything else, so that nothing need be sent twice, and out of its order."""
        self.on_opened_again: Callable[[], object] = lambda: None
        """Is called when a connection takes an ended one's place, before anything of its callers is sent on it."""
        self._routes: dict[str, Stream] = {}

    async def connect(self) -> None:
        """Asks where the servers are, and lets go of older connections. Raises RedisError."""
        await self.close()
        try:
            async with asyncio.timeout(self.timeout_s):
                self._place = await self._locate()
        except TimeoutError:
            raise exceptions.TimeoutError("Redis can't be found: nobody answered in time") from None
        except (OSError, exceptions.RedisClusterException) as error:
            raise exceptions.ConnectionError(f"Redis can't be found: {error}") from None

    def send(self, tag: str, command: tuple[Value, ...], on_answer: OnAnswer, script: Script | None = None) -> None:
        """Sends a command about keys with this hash tag; with a script, what comes after EVALSHA's digest."""
        call = Call(tag, command, script, on_answer, asyncio.get_running_loop().time() + self.timeout_s)
        try:
            stream = self._routes.get(tag)
            if stream is None or stream.error:
                stream = self._route(tag)
        except RedisError as error:
            on_answer(error)
        else:
            stream.send(call)

    async def ask(self, tag: str, command: tuple[Value, ...], script: Script | None = None) -> Any:
        """Sends a command and waits for its answer. Raises RedisError."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(tag, command, lambda answer: None if answered.done() else answered.set_result(answer), script)
        answer = await answered
        if isinstance(answer, RedisError):
            raise answer
        return answer

    async def drain(self) -> None:
        """Waits until all that was sent is answered. Raises RedisError."""
        loop = asyncio.get_running_loop()
        while busy := [stream for stream in self._streams.values() if stream.waits]:
            for stream in busy:
                answered: asyncio.Future[Any] = loop.create_future()
                deadline = loop.time() + self.timeout_s
                stream.send(Call("", ("PING",), None, answered.set_result, deadline))
                if isinstance(answer := await answered, RedisError):
                    raise answer

    def fail(self, error: RedisError) -> None:
        """Gives the error to all who wait for an answer, and to all who ask before the next `connect`."""
        self._place = None
        self._routes = {}
        for stream in tuple(self._streams.values()):
            stream.fail(error)

    async def close(self) -> None:
        """Lets all connections go."""
        self.fail(exceptions.ConnectionError("the connection was closed"))
        streams = [*self._streams.values(), *self._ended]
        self._streams, self._ended = {}, []
        for stream in streams:
            await stream.closed()

    def _route(self, tag: str) -> Stream:
        if self._place is None:
            raise exceptions.ConnectionError("there is no connection to Redis")
        stream = self._routes[tag] = self._stream(self._place(tag))
        return stream

    def _stream(self, place: Place) -> Stream:
        stream = self._streams.get(place)
        if stream is None or stream.error:
            former = stream
            self._ended = [ended for ended in [*self._ended, former] if ended and not ended.done]
            stream = self._streams[place] = Stream(self._connection(*place), self._replied)
            deadline = asyncio.get_running_loop().time() + self.timeout_s
            for script in self.scripts:
                stream.send(Call("", ("SCRIPT", "LOAD", script.text), None, lambda answer: None, deadline))
            if former is not None:
                self.on_opened_again()
        return stream

    def _replied(self, stream: Stream, call: Call, answer: Any) -> None:
        if isinstance(answer, MovedError | AskError | NoScriptError) and call.redirects < MOST_REDIRECTS:
            call.redirects += 1
            self._send_again(stream, call, answer)
        else:
            call.on_answer(answer)

    def _send_again(self, stream: Stream, call: Call, error: MovedError | AskError | NoScriptError) -> None:
        if isinstance(error, NoScriptError):
            stream.send(call, by_text=True)
            return
        target = self._stream((error.host, error.port))
        if isinstance(error, MovedError):  # which redis-py makes a kind of AskError
            self._routes[call.tag] = target
        else:
            target.send(Call(call.tag, ("ASKING",), None, lambda answer: None, call.deadline))
        target.send(call)


def open_redis(
    address: RedisAddress, password: str | None = None, ca_file: Path | None = None, timeout_s: float = TIMEOUT_S
) -> Redis:
    """Makes what will connect to the Redis at an address. Nothing is sent before `Redis.connect`."""
    once = Retry(NoBackoff(), 0)
    tls = {"ssl_ca_certs": str(ca_file)} if ca_file and address.tls else {}
    options: dict[str, Any] = {
        "username": address.user,
        "password": password,
        "protocol": 2,
        "driver_info": None,
        **tls,
    }
    third = timeout_s / 3  # of which some fit into it: one node, or sentinel, that is gone must not take it all
    quick: dict[str, Any] = {
        "socket_timeout": third,
        "socket_connect_timeout": third,
        "retry": once,
        "ssl": address.tls,
    }
    kind = SSLConnection if address.tls else Connection

    def connection(host: str, port: int) -> Connection:
        # Without a timeout for each answer, which would cost a timer each: the stream has one for all.
        timeouts: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": timeout_s}
        return kind(host=host, port=port, db=address.database, **timeouts, **options)

    async def single() -> Callable[[str], Place]:
        return lambda tag: address.hosts[0]

    async def cluster() -> Callable[[str], Place]:
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        client = RedisCluster(startup_nodes=nodes, **quick, **options)
        try:
            await client.initialize()
        finally:
            await client.aclose()
        return lambda tag: _holder(client, tag)

    async def sentinel() -> Callable[[str], Place]:
        sentinels: Any = Sentinel(address.hosts, sentinel_kwargs={**quick, **tls})  # type: ignore[no-untyped-call]
        try:
            found: Place = await sentinels.discover_master(address.master)
        except MasterNotFoundError:  # whose text is a dump of redis-py's objects
            named = ", ".join(f"{host}:{port}" for host, port in address.hosts)
            raise exceptions.ConnectionError(f"no master called {address.master!r} is known at {named}") from None
        finally:
            await sentinels.aclose()
        return lambda tag: found

    return Redis({"single": single, "cluster": cluster, "sentinel": sentinel}[address.mode], connection, timeout_s)


def _holder(client: RedisCluster, tag: str) -> Place:
    """Raises RedisError."""
    try:
        node = client.get_node_from_key(f"{{{tag}}}")
    except exceptions.SlotNotCoveredError:
        node = None
    if node is None:
        raise exceptions.ClusterDownError("no node of the cluster holds this project's keys")
    return node.host, int(node.port)
