"""How many connections a door takes, who is turned away and how, and what an unfinished handshake costs others."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.config.addresses import parse_network
from proxy.gateway import acceptor
from proxy.gateway.acceptor import Acceptor, Caps
from tests.gateway.test_heads import GET, Echo
from tests.gateway.wire import Connection, Door, door, parse
from tests.upstreams.origin import Security, make_security

pytestmark = pytest.mark.anyio

DEADLINE_S = 30


async def until(happened: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not happened():
            await asyncio.sleep(0.001)


async def served(connection: Connection) -> bool:
    connection.writer.write(GET)
    return (await connection.response()).body == b"ok"


async def from_address(gateway: Door, address: str) -> Connection:
    """Connects from another address of this machine."""
    connection = Connection(*await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=(address, 0)))
    gateway.clients.append(connection)
    return connection


@contextmanager
def silent(gateway: Door, number: int) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), DEADLINE_S))
            for _ in range(number)
        ]


@pytest.mark.parametrize("secured", [False, True])
async def test_who_comes_beyond_the_caps_is_told_so_and_others_are_served_on(secured: bool, tmp_path: Path) -> None:
    tls = make_security(tmp_path) if secured else None
    async with door(Echo(), caps=Caps(connections=3), tls=tls) as gateway:
        kept = [await gateway.connect() for _ in range(3)]
        assert [await served(connection) for connection in kept] == [True] * 3
        for _ in range(3):
            turned_away = parse(await gateway.ask(GET))
            assert (turned_away.status, turned_away.headers[b"connection"]) == (503, b"close")
            assert turned_away.headers[b"x-weighbridge-refused"] == b"TOO_MANY_CONNECTIONS"
            assert json.loads(turned_away.body)["error"]["status"] == "UNAVAILABLE"
        assert [await served(connection) for connection in kept] == [True] * 3
        kept[0].writer.close()
        await until(lambda: gateway.acceptor.open == 2)
        assert await served(await gateway.connect())


async def test_one_address_takes_no_more_than_its_share_unless_it_stands_for_many() -> None:
    trusted = (parse_network("127.0.0.3"),)
    async with door(Echo(), caps=Caps(connections=6, per_address=2, trusted=trusted)) as gateway:
        greedy = [await from_address(gateway, "127.0.0.2") for _ in range(2)]
        third = await from_address(gateway, "127.0.0.2")
        assert parse(await third.rest()).status == 503
        assert await served(await from_address(gateway, "127.0.0.1"))
        proxies = [await from_address(gateway, "127.0.0.3") for _ in range(3)]
        assert [await served(connection) for connection in (*greedy, *proxies)] == [True] * 5


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:0db8:0000:0001"),
        ("2001:db8:0:1:ffff::", "2001:0db8:0000:0001"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
    ],
)
def test_an_ipv6_network_of_64_bits_is_one_host(peer: str, host: str) -> None:
    assert acceptor._host(peer) == host


async def test_more_than_can_be_told_are_reset_and_the_log_says_it_once() -> None:
    async with door(Echo(), caps=Caps(connections=1)) as gateway:
        kept = await gateway.connect()
        with capture_logs() as said, silent(gateway, acceptor.FAREWELLS + 50) as many:
            assert await served(kept)
            # Those that are told stay for a while, for they don't leave.
            await until(lambda: len(gateway.acceptor._parting) == acceptor.FAREWELLS)
            answers = [await asyncio.to_thread(_answer, client) for client in many]
        assert sum(b"TOO_MANY_CONNECTIONS" in answer for answer in answers) == acceptor.FAREWELLS
        assert answers.count(b"reset") == 50
        assert [line["event"] for line in said] == ["connections_refused"]
        assert said[0]["over"] == "max_connections"
        assert await served(kept)


def _answer(client: socket.socket) -> bytes:
    try:
        return client.recv(1 << 16)
    except ConnectionResetError:
        return b"reset"


async def test_a_handshake_that_does_not_end_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_S", 0.2)
    async with door(Echo(), caps=Caps(connections=5), tls=make_security(tmp_path)) as gateway:
        with silent(gateway, 5) as stuck:
            await until(lambda: gateway.acceptor.open == 5)
            stuck[0].sendall(b"GET / HTTP/1.1\r\n\r\n")  # no TLS at all
            stuck[1].close()
            await until(lambda: gateway.acceptor.open == 0)
            assert await served(await gateway.connect())
            assert gateway.acceptor.open == 1


async def test_handshakes_that_hang_hold_up_others_for_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many as may be under way at once: who comes after them is served long before they time out."""
    monkeypatch.setattr(acceptor, "HANDSHAKES", 20)
    monkeypatch.setattr(acceptor, "PRESSED_S", 0.1)
    async with door(Echo(), tls=make_security(tmp_path)) as gateway:
        with silent(gateway, 80):
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, len(gateway.acceptor._connecting))
                    await asyncio.sleep(0)

            watching = asyncio.get_running_loop().create_task(watch())
            assert await served(await gateway.connect())
            watching.cancel()
            assert most == 20
            assert acceptor.HANDSHAKE_S == 10


async def test_without_file_descriptors_nobody_is_dropped_and_the_door_opens_again() -> None:
    """Those that came wait in the kernel until there are some."""
    async with door(Echo()) as gateway:
        kept = await gateway.connect()
        assert await served(kept)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with ExitStack() as stack:
            waiting = [stack.enter_context(socket.socket()) for _ in range(20)]
            last = os.dup(0)
            os.close(last)  # the lowest that is free, and there may be gaps after it
            with capture_logs() as said:
                resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
                try:
                    for client in waiting:
                        client.connect(("127.0.0.1", gateway.port))
                    await until(lambda: said)
                    assert await served(kept)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert [(line["event"], line["why"]) for line in said] == [("connections_wait", os.strerror(errno.EMFILE))]
            for client in waiting:
                client.sendall(GET)
                assert b"200 OK" in await asyncio.to_thread(client.recv, 1 << 16)


async def test_a_connection_gives_its_place_back_once_however_it_ends(security: Security) -> None:
    async with door(Echo(), caps=Caps(connections=50), tls=security, linger_s=0.01) as gateway:
        for _ in range(3):
            connections = [await gateway.connect() for _ in range(20)]
            for number, connection in enumerate(connections):
                if number % 4 == 0:
                    connection.writer.transport.abort()
                elif number % 4 == 1:
                    connection.writer.close()
                elif number % 4 == 2:
                    connection.writer.write(b"junk\r\n\r\n")
                    assert b"400" in await connection.rest()
                else:
                    connection.writer.write(GET.replace(b"host: x", b"host: x\r\nconnection: close"))
                    assert b"200" in await connection.rest()
            await until(lambda: gateway.acceptor.open == 0)
            assert gateway.acceptor._by_host == {}


@pytest.fixture
def security(tmp_path: Path) -> Security:
    return make_security(tmp_path)


async def test_a_door_that_closes_before_a_handshake_ends_leaves_nothing_behind(security: Security) -> None:
    async with door(Echo(), tls=security) as gateway:
        taking: Acceptor = gateway.acceptor
        with silent(gateway, 5) as stuck:
            await until(lambda: taking.open == 5)
            taking.close()
            await until(lambda: taking.open == 0)
            for client in stuck:
                assert await asyncio.to_thread(_answer, client) in (b"", b"reset")


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_comes_as_the_door_closes_is_not_waited_for(turns: int) -> None:
    """However far it has come: a drain would wait for it until its very end."""
    async with door(Echo()) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)):
            gateway.acceptor._accept()
            for _ in range(turns):
                await asyncio.sleep(0)
            gateway.acceptor.close()
        await until(lambda: not gateway.state.connections and not gateway.acceptor.open)
