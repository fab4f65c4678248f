"""The chaos run, small: whatever fails, each call is on the bill once at its amount, and nobody is over a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import pytest
import uvloop

from proxy.billing.records import UsageRecord
from proxy.gemini.surface import OPERATIONS
from tests.chaos.calls import VERBS
from tests.chaos.outcome import Outcome, figures, table
from tests.chaos.run import Run
from tests.disk import Disk
from tests.proof import Proof, sized
from tests.redis_servers import running_redis

SEED = 1


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory, disk_library: Path) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("chaos")
    with (
        running_redis(folder / "redis") as redis,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        yield runner.run(Run(folder, Disk(folder, disk_library), redis, SEED, sized(2000, 100_000), print).run())


def test_each_call_is_on_the_bill_once_whatever_fails(chaos: Outcome, proof: Proof) -> None:
    """None is lost, none is there twice, none has a wrong amount, and no limit is over."""
    print(table(figures(chaos)))
    assert chaos.failures() == []
    assert chaos.idle() == []
    proof(**figures(chaos))


def test_a_bill_that_is_wrong_is_found(chaos: Outcome) -> None:
    """One record less, one twice, one that costs a nano-dollar more, one that has another key."""
    records = list(chaos.records)
    paid = next(at for at, record in enumerate(records) if record.outcome == "ok" and not record.estimated)

    def found(*changed: UsageRecord) -> list[str]:
        wrong = chaos.reckon([*records[:paid], *changed, *records[paid + 1 :]]).wrong
        return [what.partition(":")[0] for what in wrong]

    dearer, stranger = copy(records[paid]), copy(records[paid])
    dearer.cost_usd = (dearer.cost_usd or 0) + 1
    stranger.key_name = "nobody"
    assert "lost" in found()
    assert found(records[paid], records[paid]) == ["twice"]
    assert found(dearer) == ["wrong amount"]
    assert {"nobody's", "lost"} <= set(found(stranger))


def test_every_metered_operation_is_called() -> None:
    """Whatever the surface table meters of the native surface is part of the run. The compatibility layer goes through
    the same exchange, and tests/sdk/test_compatibility_layer.py holds its bill against the emulator's account."""
    native = [operation for operation in OPERATIONS if not operation.compatible]
    assert sorted(VERBS) == sorted(operation.name for operation in native if operation.metered)
