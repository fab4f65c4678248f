"""The contract of limiters: every adapter answers as the pure algorithm does, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop
from hypothesis import given

from tests.contracts.histories import Replay, Step, histories
from tests.contracts.stores import NOON_S, Store, at, fake, in_memory
from tests.proof import Proof, at_random, sized
from tests.redis_servers import SetClock, running_cluster, running_redis, running_sentinel, running_valkey


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all examples of a test: Hypothesis calls plain functions."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@pytest.fixture(scope="module")
def memory_store() -> Store:
    return in_memory(SetClock(NOON_S))


@pytest.fixture(scope="module")
def fake_store() -> Store:
    return fake()


@pytest.fixture(scope="module")
def redis_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield at(server.url)


@pytest.fixture(scope="module")
def valkey_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_valkey(tmp_path_factory.mktemp("valkey") / "server", NOON_S) as (server, clock):
        yield at(server.url, clock)


@pytest.fixture(scope="module")
def cluster_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield at(f"redis+cluster://127.0.0.1:{nodes[0].port}")


@pytest.fixture(scope="module")
def sentinel_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_sentinel(tmp_path_factory.mktemp("sentinel")) as watched:
        yield at(watched.url)


def hold_against_the_algorithm(runner: asyncio.Runner, store: Store, examples: int, proof: Proof) -> None:
    """Random histories on one limiter; each has projects of its own."""
    steps = 0

    @at_random(examples)
    @given(histories(clock=store.clock is not None))
    def replay(history: list[Step]) -> None:
        nonlocal steps
        steps += len(history)
        runner.run(_replay(store, history))

    replay()
    proof(histories=examples, steps=steps)


async def _replay(store: Store, history: list[Step]) -> None:
    async with store.limiter() as stand:
        await Replay(stand).run(history)


def test_memory_answers_as_the_algorithm(runner: asyncio.Runner, memory_store: Store, proof: Proof) -> None:
    hold_against_the_algorithm(runner, memory_store, sized(50, 20000), proof)


def test_fakeredis_answers_as_the_algorithm(runner: asyncio.Runner, fake_store: Store, proof: Proof) -> None:
    hold_against_the_algorithm(runner, fake_store, sized(10, 300), proof)


def test_redis_answers_as_the_algorithm(runner: asyncio.Runner, redis_store: Store, proof: Proof) -> None:
    hold_against_the_algorithm(runner, redis_store, sized(50, 5000), proof)


def test_valkey_answers_as_the_algorithm_also_while_its_clock_is_set(
    runner: asyncio.Runner, valkey_store: Store, proof: Proof
) -> None:
    """Forth and back, by seconds and by days."""
    hold_against_the_algorithm(runner, valkey_store, sized(100, 10000), proof)


def test_a_cluster_answers_as_the_algorithm(runner: asyncio.Runner, cluster_store: Store, proof: Proof) -> None:
    """Projects lie on any of its nodes; a call's keys on one."""
    hold_against_the_algorithm(runner, cluster_store, sized(10, 1000), proof)


def test_the_master_that_sentinels_name_answers_as_the_algorithm(
    runner: asyncio.Runner, sentinel_store: Store, proof: Proof
) -> None:
    hold_against_the_algorithm(runner, sentinel_store, sized(10, 1000), proof)
