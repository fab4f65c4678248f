"""What is taken of the limits of all who have a key, asked some at a time: no call waits for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from proxy.config.limits import Limit
from proxy.limits.interface import Counter, Limiter, Taken, counters
from proxy.tenants.keys import Tenant

AT_ONCE = 50
"""Counters that the limiter is asked about together. In memory, that is the work of one turn of the event loop."""

Tenants = Mapping[bytes, Tenant]
Batch = list[list[Counter]]
"""Counters that are asked about together: of each project that has any, some."""


class Counted:
    """Those limits of all tenants that are wanted."""

    def __init__(self, tenants: Callable[[], Tenants], limiter: Limiter, wanted: Callable[[Limit], bool]) -> None:
        """`tenants` gives the same object until one of them changes."""
        self._tenants = tenants
        self._limiter = limiter
        self._wanted = wanted
        self._known_of: Tenants | None = None
        self._known: list[Batch] = []

    async def taken(
        self, day: str, asked: Callable[[Counter], bool] = lambda counter: True
    ) -> AsyncIterator[list[tuple[Counter, Taken]]]:
        """What is taken of each on a day, AT_ONCE at a time. Raises ProxyRefused LIMITER_UNAVAILABLE."""
        tenants = self._tenants()
        if tenants is not self._known_of:
            # In a thread: there may be 100,000 keys.
            self._known, self._known_of = await asyncio.to_thread(_batches, tenants.values(), self._wanted), tenants
        for batch in self._known:
            some = [mine for of in batch if (mine := [one for one in of if asked(one)])]
            told = await asyncio.gather(*(self._limiter.used(day, of) for of in some))
            yield [pair for of, taken in zip(some, told, strict=True) for pair in zip(of, taken, strict=True)]


def _batches(tenants: Iterable[Tenant], wanted: Callable[[Limit], bool]) -> list[Batch]:
    """Each counter once, however many keys a project has."""
    found: dict[str, dict[str, Counter]] = {}
    for project, key_id, _, policy in tenants:
        of = [tuple(filter(wanted, limits)) for limits in (policy.project_limits, policy.key_limits)]
        for counter in counters(project, key_id, *of) if any(of) else ():
            found.setdefault(project, {})[counter.name] = counter
    batches: list[Batch] = []
    room = 0
    for of_project in found.values():
        left = list(of_project.values())
        while left:
            if not room:
                batches.append([])
                room = AT_ONCE
            batches[-1].append(left[:room])
            left, room = left[room:], max(room - len(left), 0)
    return batches
