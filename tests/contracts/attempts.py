"""What calls take of their upstream's own quota, and what its counters must say: a part of the books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from proxy.billing.periods import GOOGLES_ZONE, Days
from proxy.gateway.weighing import Weighing
from proxy.limits.interface import Counter
from tests.contracts.bookkeeping import AT_UPSTREAM, IMAGE, TEXT, UPSTREAM, Expected, Made, Process

GOOGLES_DAYS = Days(GOOGLES_ZONE)
Arrived = Callable[[], Awaitable[None]]
"""Waits until the limiter's store has it."""


def attempt(made: Made, weighing: Weighing) -> Made:
    """What a call takes of its upstream, by estimate."""
    rates, day = weighing._record.rates or {}, GOOGLES_DAYS.name(made.started_us)
    tokens = sum(of for name, (of, _) in rates.items() if name.startswith("input_"))
    usd = weighing._record.cost_usd or 0
    weighs = {"rpm": 1, "tpm": tokens, "rpd": 1, "ipm": int("output_image" in rates), "usd_per_10min": usd}
    return Made(made.record_id, AT_UPSTREAM, made.model, made.started_us, day, weighs, made.second, None)


async def reserve(process: Process, attempt: Made) -> int | None:
    of = attempt.weighs
    held = of["tpm"], of["ipm"], of["usd_per_10min"]
    return await process.quotas.reserve(f"{attempt.record_id}.1", UPSTREAM.name, attempt.model, *held)


async def settle(process: Process, made: Made, taken: Mapping[str, int], arrived: Arrived) -> None:
    process.quotas.settle(f"{made.record_id}.1", taken.get("tpm"), taken.get("ipm"), made.cost)
    await arrived()


async def cancel(process: Process, made: Made, arrived: Arrived) -> None:
    process.quotas.cancel(f"{made.record_id}.1")
    await arrived()


async def counters_say(process: Process, expected: Expected, now_us: int, second: int) -> None:
    """What calls took, of each model by itself; of money, over both."""
    for model in (TEXT, IMAGE):
        assert process.quotas.known_wait_ms(UPSTREAM.name, model) is None
    used = await process.quotas.used(UPSTREAM.name)
    assert len(used) == 2 * 4 + 1
    day = GOOGLES_DAYS.name(now_us)
    for of in used:
        counter = Counter("", of.kind, of.value, AT_UPSTREAM.project, model=of.model)
        assert of.used == expected.used(counter, day, second), (of.kind, of.model)
