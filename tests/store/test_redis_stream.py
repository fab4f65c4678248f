"""One connection: commands of one turn share a write, answers come in order, and time runs out for all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis import exceptions
from redis.asyncio import Connection

from proxy.store.redis_stream import Call, Script, Stream
from tests.redis_servers import RedisServer

Replies = list[tuple[Any, Any]]


class Counting(Connection):
    writes = 0

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        type(self).writes += 1
        await super().send_packed_command(command, check_health)


@asynccontextmanager
async def streaming(port: int) -> AsyncIterator[tuple[Stream, asyncio.Queue[tuple[Any, Any]]]]:
    """A stream, and the commands as they are answered."""
    replies: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()
    stream = Stream(
        Counting(host="127.0.0.1", port=port, protocol=2, driver_info=None, socket_timeout=None),
        lambda stream, call, answer: replies.put_nowait((call.command, answer)),
    )
    try:
        yield stream, replies
    finally:
        stream.fail(exceptions.ConnectionError("closed"))
        await stream.closed()


def call(*command: str | int, script: Script | None = None, seconds: float = 10) -> Call:
    return Call("a", command, script, lambda answer: None, asyncio.get_running_loop().time() + seconds)


async def test_what_is_sent_in_one_turn_is_one_write_and_is_answered_in_order(redis_server: RedisServer) -> None:
    async with streaming(redis_server.port) as (stream, replies):
        stream.send(call("PING"))
        await replies.get()
        before = Counting.writes
        for number in range(100):
            stream.send(call("ECHO", number))
        for number in range(100):
            assert await replies.get() == (("ECHO", number), str(number).encode())
        assert Counting.writes == before + 1
        assert not stream.waits


async def test_a_script_that_the_server_does_not_know_is_sent_by_its_text(redis_server: RedisServer) -> None:
    async with streaming(redis_server.port) as (stream, replies):
        incr = call(1, "n", script=Script("return redis.call('INCR', KEYS[1])"))
        stream.send(incr)
        assert isinstance((await replies.get())[1], exceptions.NoScriptError)
        stream.send(incr, by_text=True)
        assert (await replies.get())[1] == 1
        stream.send(incr)
        assert (await replies.get())[1] == 2


async def test_when_one_answer_is_late_all_that_wait_are_told(redis_server: RedisServer) -> None:
    """An answer that is in time isn't, and puts the others' time off by nothing."""
    async with streaming(redis_server.port) as (stream, replies):
        stream.send(call("PING", seconds=0.2))
        assert (await replies.get())[1] == b"PONG"
        stream.send(call("BLPOP", "none", 0, seconds=0.3))
        stream.send(call("PING"))
        late = [await replies.get(), await replies.get()]
        assert [command for command, _ in late] == [("BLPOP", "none", 0), ("PING",)]
        assert all(isinstance(answer, exceptions.TimeoutError) for _, answer in late)
        stream.send(call("PING"))
        assert isinstance((await replies.get())[1], exceptions.TimeoutError)


async def test_an_answer_that_nobody_had_time_to_read_is_not_late(redis_server: RedisServer) -> None:
    """A loop that is held up by other work for longer than Redis has: before it sent what was asked, before it read the
    answer, and again in each of its turns until then."""
    loop = asyncio.get_running_loop()

    def busy(turns: int) -> None:
        time.sleep(0.3)
        if turns:
            loop.call_soon(busy, turns - 1)

    async with streaming(redis_server.port) as (stream, replies):
        for turns, seconds in ((None, 1.0), (0, 0.2), (2, 0.2)):
            stream.send(call("PING", seconds=seconds))
            if turns is not None:  # the first connects
                busy(turns)
            assert (await replies.get())[1] == b"PONG"
            while stream._timer:  # it has looked at the clock, and begins anew
                await asyncio.sleep(0.05)


async def test_where_nobody_listens_those_who_wait_are_told(redis_server: RedisServer) -> None:
    redis_server.stop()
    async with streaming(redis_server.port) as (stream, replies):
        stream.send(call("PING"))
        assert isinstance((await replies.get())[1], exceptions.ConnectionError)


async def test_what_is_no_redis_is_given_up() -> None:
    """It answers what can't be read, or what it wasn't asked."""
    for said in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+PONG\r\n+PONG\r\n"):

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = said) -> None:
            await reader.read(10)
            writer.write(said)
            await reader.read(-1)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, streaming(server.sockets[0].getsockname()[1]) as (stream, _):
            stream.send(call("PING"))
            async with asyncio.timeout(10):
                while not stream.error:
                    await asyncio.sleep(0.01)
