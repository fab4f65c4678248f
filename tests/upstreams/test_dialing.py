"""Connecting to a name: every address has its turn, one that is silent delays by a step, and is left for a while."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from proxy.upstreams.connection import RECEIVE_BUFFER, Connection
from proxy.upstreams.dialing import Dialer, system_resolve
from proxy.upstreams.http11 import Http11Transport
from tests.transport.counts import back_to, counts
from tests.upstreams.origin import BOTH_LOOPS, Peer, post, read_all

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]


class Names:
    """A name service with one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def __call__(self, host: str) -> list[str]:
        self.asked += 1
        return self.addresses


class Hosts:
    """Servers at several of this machine's addresses, on one port; each says which one it is."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted: list[str] = []
        self._servers: dict[str, asyncio.Server] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, address: str) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.accepted.append(address)
            self._writers.add(writer)
            peer, name = Peer(0, reader, writer), address.encode()
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(name), name))
            writer.close()
            self._writers.discard(writer)

        server = self._servers[address] = await asyncio.start_server(connected, address, self.port)
        self.port = server.sockets[0].getsockname()[1]

    async def stop(self, address: str) -> None:
        """Takes no more connections; those that stand go on."""
        self._servers.pop(address).close()

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)


@pytest.fixture
async def hosts() -> AsyncIterator[Hosts]:
    there = Hosts()
    yield there
    await there.close()


@contextlib.contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """Nobody takes a connection at this address, and nobody refuses one."""
    with socket.socket() as listener, contextlib.ExitStack() as taken:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            filling = taken.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex((address, port))
        yield


async def dialled(dialer: Dialer) -> str:
    """The address that a connection came to. Nothing else is left of it, or of what was tried beside it."""
    before = counts()
    buffer, loop = memoryview(bytearray(RECEIVE_BUFFER)), asyncio.get_running_loop()
    async with asyncio.timeout(30):
        connection, address = await dialer.dial(lambda: Connection(loop, buffer, lambda _: None))
    connection.abort()
    del connection
    now = await back_to(before)
    assert now == before
    return address


async def test_an_address_that_is_silent_delays_by_one_step_and_is_tried_last_after_that(hosts: Hosts) -> None:
    """The connect phase is ten seconds; nobody waits for that."""
    await hosts.start("127.0.0.2")
    with silent("127.0.0.1", hosts.port):
        dialer = Dialer("two.test", hosts.port, resolve=Names("127.0.0.1", "127.0.0.2"), stagger_s=0.05)
        assert await dialled(dialer) == "127.0.0.2"
        patient = Dialer("two.test", hosts.port, resolve=Names("127.0.0.1", "127.0.0.2"), stagger_s=3600)
        patient._avoided = dialer._avoided
        assert await dialled(patient) == "127.0.0.2"


async def test_an_address_that_refuses_is_left_at_once_for_the_next(hosts: Hosts) -> None:
    await hosts.start("127.0.0.3")
    names = Names("127.0.0.1", "127.0.0.2", "127.0.0.3")
    assert await dialled(Dialer("three.test", hosts.port, resolve=names, stagger_s=3600)) == "127.0.0.3"


async def test_what_was_avoided_is_tried_first_again_when_its_time_is_over(hosts: Hosts) -> None:
    await hosts.start("127.0.0.2")
    names = Names("127.0.0.1", "127.0.0.2")
    short, long = (Dialer("two.test", hosts.port, resolve=names, avoid_s=seconds) for seconds in (0.0, 3600.0))
    assert {await dialled(short), await dialled(long)} == {"127.0.0.2"}
    await hosts.start("127.0.0.1")
    assert [await dialled(short), await dialled(long)] == ["127.0.0.1", "127.0.0.2"]


async def test_where_all_were_avoided_they_are_tried_all_the_same(hosts: Hosts) -> None:
    await hosts.start("127.0.0.2")
    await hosts.stop("127.0.0.2")
    dialer = Dialer("two.test", hosts.port, resolve=Names("127.0.0.1", "127.0.0.2"))
    with pytest.raises(ConnectionRefusedError):
        await dialled(dialer)
    await hosts.start("127.0.0.2")
    assert await dialled(dialer) == "127.0.0.2"


async def test_both_families_have_their_turn(hosts: Hosts) -> None:
    """Of a name with four IPv6 addresses that lead nowhere, the IPv4 address is the second that is tried."""
    await hosts.start("127.0.0.1")
    nowhere = ["::1", "::ffff:127.0.0.2", "::ffff:127.0.0.3", "::ffff:127.0.0.4"]
    dialer = Dialer("six.test", hosts.port, resolve=Names(*nowhere, "127.0.0.1"))
    assert await dialled(dialer) == "127.0.0.1"
    assert set(dialer._avoided) == {"::1"}


async def test_a_name_without_addresses_is_an_error_of_the_network() -> None:
    with pytest.raises(OSError, match=r"^$"):
        await dialled(Dialer("none.test", 80, resolve=Names()))


async def test_attempts_that_nobody_waits_for_any_more_leave_nothing(hosts: Hosts) -> None:
    await hosts.start("127.0.0.2")
    before = counts()
    with silent("127.0.0.1", hosts.port), silent("127.0.0.3", hosts.port):
        names = Names("127.0.0.1", "127.0.0.3")
        dialling = asyncio.get_running_loop().create_task(dialled(Dialer("x.test", hosts.port, resolve=names)))
        while len(asyncio.all_tasks()) < before.tasks + 2:
            await asyncio.sleep(0)
        dialling.cancel()
        await asyncio.wait((dialling,))
    assert await back_to(before) == before


class Together(Dialer):
    """Two connections stand at the same moment."""

    def __init__(self, port: int) -> None:
        super().__init__("two.test", port, resolve=Names("127.0.0.1", "127.0.0.2"), stagger_s=0.0)
        self._both = asyncio.Barrier(2)

    async def _connect(self, address: str, make: Callable[[], Connection]) -> Connection:
        connection = await super()._connect(address, make)
        await self._both.wait()
        return connection


async def test_of_two_connections_that_stand_at_the_same_moment_one_is_left(hosts: Hosts) -> None:
    await hosts.start("127.0.0.1")
    await hosts.start("127.0.0.2")
    assert await dialled(Together(hosts.port)) in ("127.0.0.1", "127.0.0.2")


async def test_what_failed_is_left_to_no_garbage_collector() -> None:
    """An error knows the frames that it came through, and with them sockets and buffers."""
    dialer = Dialer("x.test", 1, resolve=Names("127.0.0.1", "127.0.0.2"))
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with contextlib.suppress(ConnectionRefusedError):
            await dialled(dialer)
        gc.collect()
        assert not [left for left in gc.garbage if isinstance(left, OSError | asyncio.Task | Connection)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def test_the_system_is_asked_for_numeric_addresses() -> None:
    assert "127.0.0.1" in await system_resolve("localhost")
    assert await system_resolve("::1") == ["::1"]
    assert await system_resolve("fe80::1%1") == ["fe80::1%1"]
    with pytest.raises(socket.gaierror):
        await system_resolve("no-such-name.invalid")


async def test_each_new_connection_asks_for_the_name_again_and_a_kept_one_does_not(hosts: Hosts) -> None:
    await hosts.start("127.0.0.1")
    await hosts.start("127.0.0.2")
    names = Names("127.0.0.1")
    transport = Http11Transport(f"http://moved.test:{hosts.port}", resolve=names)
    async with contextlib.aclosing(transport):
        assert [await read_all(await transport.send(post())) for _ in range(3)] == [b"127.0.0.1"] * 3
        assert names.asked == 1
        names.addresses = ["127.0.0.2"]
        first = await transport.send(post())
        assert await read_all(await transport.send(post())) == b"127.0.0.2"
        assert await read_all(first) == b"127.0.0.1"
        assert names.asked == 2


async def test_under_steady_load_calls_follow_a_name_that_has_moved_when_connections_have_come_of_age(
    hosts: Hosts,
) -> None:
    await hosts.start("127.0.0.1")
    await hosts.start("127.0.0.2")
    names = Names("127.0.0.1")
    transport = Http11Transport(f"http://moved.test:{hosts.port}", resolve=names, max_age=0.2)
    async with contextlib.aclosing(transport), asyncio.timeout(30):
        assert await read_all(await transport.send(post())) == b"127.0.0.1"
        names.addresses = ["127.0.0.2"]
        while await read_all(await transport.send(post())) == b"127.0.0.1":
            pass
        assert hosts.accepted == ["127.0.0.1", "127.0.0.2"]


async def test_a_dead_address_is_left_for_one_that_lives(hosts: Hosts) -> None:
    await hosts.start("127.0.0.1")
    await hosts.start("127.0.0.2")
    transport = Http11Transport(f"http://two.test:{hosts.port}", resolve=Names("127.0.0.1", "127.0.0.2"), max_age=0.0)
    async with contextlib.aclosing(transport):
        assert await read_all(await transport.send(post())) == b"127.0.0.1"
        await hosts.stop("127.0.0.1")
        assert [await read_all(await transport.send(post())) for _ in range(3)] == [b"127.0.0.2"] * 3


async def test_an_upstream_is_reached_by_its_ipv6_address(hosts: Hosts) -> None:
    await hosts.start("::1")
    transport = Http11Transport(f"http://[::1]:{hosts.port}")
    async with contextlib.aclosing(transport):
        assert await read_all(await transport.send(post())) == b"::1"
