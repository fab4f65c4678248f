"""What calls take of their upstream's own quota, and what its counters must say: a part of the books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from proxy.billing.periods import GOOGLES_ZONE, Days
from proxy.config.quotas import PER_MODEL, SPEND
from proxy.gateway.weighing import Weighing
from proxy.limits.interface import Counter
from tests.contracts.bookkeeping import AT_UPSTREAM, IMAGE, TEXT, UPSTREAM, Process
from tests.contracts.expected import Expected, Made

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
    said = sorted((of.kind, of.model, of.used) for of in await process.quotas.used(UPSTREAM.name))
    assert said == sorted(
        (counter.kind, counter.model, expected.used(counter, day, second)) for counter, day in limited(now_us)
    )
    assert len(said) == 2 * 4 + 1


def limited(now_us: int) -> set[tuple[Counter, str]]:
    """The upstream's counters, and the day by which they count."""
    kinds = [(kind, model) for kind in PER_MODEL for model in (TEXT, IMAGE)]
    day = GOOGLES_DAYS.name(now_us)
    return {(Counter("", kind, 0, AT_UPSTREAM.project, model=model), day) for kind, model in [*kinds, (SPEND, "*")]}
