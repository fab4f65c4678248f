"""The way to Redis: by TLS, with a password, through sentinels, over a cluster whose keys move; lost, and found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis import exceptions

from proxy.config.redis_address import parse
from proxy.store.redis import Redis, open_redis
from proxy.store.redis_stream import Script
from tests.certificates import Certificate, make_certificate
from tests.redis_servers import RedisServer, Watched, running_redis


@asynccontextmanager
async def connected(url: str, password: str | None = None, ca_file: Path | None = None) -> AsyncIterator[Redis]:
    opened = open_redis(parse(url), password, ca_file)
    try:
        await opened.connect()
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            running_redis(tmp_path / "redis", *arguments, **options)
        )


async def test_commands_are_answered_in_their_order(redis_server: RedisServer) -> None:
    """And one that Redis refuses fails alone."""
    async with connected(redis_server.url) as there:
        asked = [there.ask("a", ("INCR", "n")), there.ask("a", ("LPUSH", "n", 1)), there.ask("a", ("INCR", "n"))]
        first, refused, second = await asyncio.gather(*asked, return_exceptions=True)
        assert (first, second) == (1, 2)
        assert isinstance(refused, exceptions.ResponseError)


async def test_a_database_and_a_user_of_ones_own(redis_server: RedisServer) -> None:
    with redis_server.client as client:
        client.execute_command("ACL", "SETUSER", "proxy", "on", ">geheim", "~wb:*", "+set", "+select")
    async with connected(f"redis://proxy@127.0.0.1:{redis_server.port}/3", "geheim") as there:
        assert await there.ask("a", ("SET", "wb:{a}", 1)) == b"OK"
        with pytest.raises(exceptions.NoPermissionError):
            await there.ask("a", ("GET", "wb:{a}"))
    with redis.Redis(port=redis_server.port, db=3) as client:
        assert client.keys() == [b"wb:{a}"]


def tls(certificate: Certificate, port: int) -> tuple[str, ...]:
    path = str(certificate.path)
    files = ("--tls-cert-file", path, "--tls-key-file", path, "--tls-ca-cert-file", path, "--tls-auth-clients", "no")
    return ("--tls-port", str(port), "--port", "0", *files)


async def test_tls_by_an_authority_of_ones_own(tmp_path: Path, start_redis: Callable[..., RedisServer]) -> None:
    """Its certificate is demanded: without it, and under another name, nothing is sent."""
    authority = make_certificate(tmp_path, "authority")
    server = RedisServer(tmp_path)  # for a free port
    certificate = make_certificate(tmp_path, "127.0.0.1", issuer=authority)
    options = {"ssl": True, "ssl_ca_certs": str(authority.path)}
    start_redis(*tls(certificate, server.port), "--requirepass", "geheim", port=server.port, client_options=options)
    url = f"rediss://127.0.0.1:{server.port}"
    async with connected(url, "geheim", authority.path) as there:
        assert await there.ask("a", ("SET", "n", 1)) == b"OK"
    async with connected(url, "geheim") as there:
        with pytest.raises(exceptions.ConnectionError, match="certificate"):
            await there.ask("a", ("SET", "n", 1))
    async with connected(url.replace("127.0.0.1", "localhost"), "geheim", authority.path) as there:
        with pytest.raises(exceptions.ConnectionError, match="certificate"):
            await there.ask("a", ("SET", "n", 1))
    async with connected(url.replace("rediss", "redis"), "geheim") as there:
        with pytest.raises(exceptions.RedisError):
            await there.ask("a", ("SET", "n", 1))


async def test_an_idle_connection_that_the_server_closed_is_opened_again(redis_server: RedisServer) -> None:
    """Nobody notices."""
    async with connected(redis_server.url) as there:
        await there.ask("a", ("SET", "n", 1))
        with redis_server.client as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        async with asyncio.timeout(10):
            while not next(iter(there._streams.values())).error:
                await asyncio.sleep(0.01)
        assert await there.ask("a", ("GET", "n")) == b"1"


async def test_when_a_connection_fails_all_who_wait_are_told(redis_server: RedisServer) -> None:
    """And all who come after, until it is connected again."""
    async with connected(redis_server.url) as there:
        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(there.ask("a", ("BLPOP", "none", 0))) for _ in range(3)]
        await asyncio.sleep(0)
        there.fail(exceptions.ConnectionError("gone"))
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["gone"] * 3
        with pytest.raises(exceptions.ConnectionError, match="no connection"):
            await there.ask("a", ("PING",))
        await there.connect()
        assert await there.ask("a", ("PING",)) == b"PONG"


async def test_keys_are_followed_where_a_cluster_has_moved_them(cluster: list[RedisServer]) -> None:
    """Commands that were on their way, too; scripts and plain ones; while they move and afterwards."""
    script = Script("return redis.call('INCR', KEYS[1])")
    async with connected(f"redis+cluster://127.0.0.1:{cluster[1].port}") as there:
        for project in ("alice", "bob", "carol", "dave"):
            assert await there.ask(project, (1, f"wb:{{{project}}}"), script) == 1
        with cluster[0].client as client:
            slot = client.execute_command("CLUSTER", "KEYSLOT", "wb:{alice}")
        source, target = _holds(cluster, slot), (_holds(cluster, slot) + 1) % 3
        ids = [_ask(node, "CLUSTER", "MYID") for node in cluster]
        _ask(cluster[target], "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        _ask(cluster[source], "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        _ask(cluster[source], "MIGRATE", "127.0.0.1", cluster[target].port, "wb:{alice}", 0, 5000)
        assert await there.ask("alice", (1, "wb:{alice}"), script) == 2
        for node in cluster:
            _ask(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        asked = [there.ask("alice", (1, "wb:{alice}"), script) for _ in range(3)]
        assert await asyncio.gather(*asked) == [3, 4, 5]


async def test_sentinels_say_who_is_master(sentinel: Watched) -> None:
    async with connected(sentinel.url) as there:
        assert await there.ask("a", ("SET", "n", 1)) == b"OK"
    with sentinel.master.client as client:
        assert client.get("n") == "1"
    async with connected(sentinel.url) as there:
        with pytest.raises(exceptions.ConnectionError, match="no master called 'others' is known at"):
            await open_redis(parse(sentinel.url.replace("limits", "others"))).connect()
        assert await there.ask("a", ("GET", "n")) == b"1"


@pytest.mark.parametrize("url", ["redis+cluster://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/limits"])
async def test_where_nobody_answers_the_error_says_so(url: str) -> None:
    with pytest.raises(exceptions.RedisError, match=r"127\.0\.0\.1:1"):
        await open_redis(parse(url)).connect()


def _ask(node: RedisServer, *command: object) -> Any:
    with node.client as client:
        return client.execute_command(*command)  # type: ignore[arg-type]


def _holds(cluster: list[RedisServer], slot: int) -> int:
    return next(index for index in range(3) if slot < 16384 * (index + 1) // 3)
