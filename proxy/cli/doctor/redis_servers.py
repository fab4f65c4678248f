"""What is looked at of each Redis server that keeps limits: reached, in charge, forgetting nothing, its clock right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from redis import Redis, RedisCluster, RedisError, Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    ResponseError,
)
from redis.retry import Retry

from proxy.cli.doctor.findings import CLOCK_FAILS_S, CLOCK_WARNS_S, Finding, ok, problem, warning
from proxy.config import redis_address
from proxy.config.redis_address import RedisAddress
from proxy.config.schema import Storage
from proxy.store.redis_advice import advice
from proxy.upstreams.news_stream import NEWS

ANSWERS_WITHIN_S = 3.0
PINGS = 5
SLOW_MS = 20
"""A call waits for one answer of Redis; within one network that is less than a millisecond."""
NEARLY_FULL = 0.9


def check_redis(storage: Storage, unix_s: Callable[[], float]) -> Iterator[Finding]:
    """Sends nothing that changes anything: PING, INFO, TIME."""
    address = redis_address.parse(storage.redis_url)
    with ExitStack() as opened:
        try:
            for server in _servers(address, _options(storage, address), opened):
                yield from _server(server, unix_s)
        except (RedisError, RedisClusterException, OSError) as error:
            what = str(error).partition("\n")[0].partition(" : <")[0]  # of sentinels, redis-py dumps its objects
            if isinstance(error, AuthenticationError) and not storage.redis_password:
                what = "it asks for a password, and none is configured"
            until_then = "until then, limits.on_redis_down says what becomes of calls"
            tls = "; it must speak TLS there" if address.tls else ""
            what = what or type(error).__name__
            yield problem(f"{storage.redis_url}: {what}", f"{advice(error)}{tls} ({until_then})")


def _options(storage: Storage, address: RedisAddress) -> dict[str, Any]:
    password = storage.redis_password.get_secret_value() if storage.redis_password else None
    quick = {"socket_timeout": ANSWERS_WITHIN_S, "socket_connect_timeout": ANSWERS_WITHIN_S}
    tls: dict[str, Any] = {"ssl": True} if address.tls else {}
    if address.tls and storage.redis_ca_file:
        tls["ssl_ca_certs"] = str(storage.redis_ca_file)
    return {"username": address.user, "password": password, "retry": Retry(NoBackoff(), 0), **quick, **tls}


def _servers(address: RedisAddress, options: dict[str, Any], opened: ExitStack) -> Iterator[Redis]:
    """One, the one that sentinels name, or all that hold slots of a cluster. Raises RedisError."""
    places = list(address.hosts)
    if address.mode == "cluster":
        nodes = [ClusterNode(*place) for place in places]  # type: ignore[no-untyped-call]
        cluster = RedisCluster(startup_nodes=nodes, **options)
        opened.callback(cluster.close)
        places = [(node.host, node.port) for node in cluster.get_primaries()]  # type: ignore[no-untyped-call]
    elif address.mode == "sentinel":
        apart = {name: options[name] for name in options if name not in ("username", "password")}
        sentinel: Any = Sentinel(places, sentinel_kwargs=apart)  # type: ignore[no-untyped-call]
        places = [sentinel.discover_master(address.master)]
    for host, port in places:
        server = Redis(host, port, address.database, **options)
        opened.callback(server.close)
        yield server


def _server(server: Redis, unix_s: Callable[[], float]) -> Iterator[Finding]:
    where = "{host}:{port}".format(**server.connection_pool.connection_kwargs)
    taken = []
    for _ in range(PINGS):
        began = time.perf_counter()
        server.ping()
        taken.append((time.perf_counter() - began) * 1000)
    ms = sorted(taken)[PINGS // 2]
    if not _runs_scripts(server):
        yield problem(
            f"{where}: its user may not run scripts, so no call with a limit is counted there",
            "grant that user the rights that docs/redis.md lists",
        )
    if not _shares_outages(server):
        yield problem(
            f"{where}: its user may not use streams, so no process hears of what others found out of upstreams",
            "grant that user the rights that docs/redis.md lists",
        )
    info = _info(server)
    version = "version unknown" if info is None else f"version {_version(info)}"
    answers = f"{where}: {version}, answers in {ms:.1f} ms"
    yield (
        ok(answers)
        if ms < SLOW_MS
        else warning(answers, "every call waits for one answer: put it nearer to the server")
    )
    if info is None:
        yield problem(
            f"{where}: its user may not call INFO, so nobody who has a budget is let in: what was lost doesn't show",
            "grant that user +info",
        )
    else:
        yield from _state(where, info)
    yield _clock(where, server, unix_s)


def _runs_scripts(server: Redis) -> bool:
    """Asks for a script that isn't there. Raises RedisError."""
    try:
        server.evalsha("0" * 40, 0)
    except NoScriptError:
        return True
    except NoPermissionError:
        return False
    return True


def _shares_outages(server: Redis) -> bool:
    """Asks for entries that no stream can have, and adds none. Raises RedisError."""
    asking: tuple[Callable[[], Any], ...] = (
        lambda: server.xadd(NEWS, {"": ""}, id="no id"),
        lambda: server.xrange(NEWS, min="no id"),
        lambda: server.xread({NEWS: "no id"}),
    )
    for ask in asking:
        try:
            ask()
        except NoPermissionError:
            return False
        except ResponseError:
            pass
    return True


def _info(server: Redis) -> dict[str, Any] | None:
    """None where the user of limits may not ask for it. Raises RedisError."""
    try:
        return dict(server.info())
    except NoPermissionError:
        return None


def _version(info: dict[str, Any]) -> str:
    return str(info.get("valkey_version") or info.get("redis_version"))


def _state(where: str, info: dict[str, Any]) -> Iterator[Finding]:
    if info.get("role") != "master":
        yield problem(
            f"{where}: is a replica, and takes no writes", "name the master, or sentinels, in storage.redis_url"
        )
    yield from _memory(where, info)
    if info.get("rdb_last_bgsave_status", "ok") != "ok" or info.get("aof_last_write_status", "ok") != "ok":
        yield problem(f"{where}: couldn't save to its disk, and may refuse writes", "look at its disk, and at its log")
    elif not info.get("aof_enabled"):
        yield ok(f"{where}: without an append-only file, which isn't needed: servers put in again what it forgets")


def _memory(where: str, info: dict[str, Any]) -> Iterator[Finding]:
    most, policy = int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield warning(
            f"{where}: forgets keys when its memory is full (maxmemory-policy {policy}), and with them what was used",
            "set maxmemory-policy to noeviction, and give it a Redis of its own where others need theirs evicted",
        )
    if most and int(info.get("used_memory", 0)) > most * NEARLY_FULL:
        yield warning(f"{where}: its memory is nearly full", "raise maxmemory")


def _clock(where: str, server: Redis, unix_s: Callable[[], float]) -> Finding:
    asked = unix_s()
    seconds, microseconds = server.time()
    off = (asked + unix_s()) / 2 - (seconds + microseconds / 1e6)
    if abs(off) < CLOCK_WARNS_S:
        return ok(f"{where}: its clock and this machine's agree")
    what = f"{where}: its clock is {abs(off):,.0f} s {'behind' if off > 0 else 'ahead of'} this machine's"
    do = "set both by NTP: minutes are counted by its clock, days by this one"
    return problem(what, do) if abs(off) > CLOCK_FAILS_S else warning(what, do)
