"""The pool of all upstreams, and selection: by priority, then by weight, among those that are in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.errors import NoUpstream, ProxyRefused, Reason
from proxy.upstreams.health import Health, Outage, Why
from proxy.upstreams.upstream import Upstream

REMEMBERED = 10_000
"""Routes that are kept at hand. A caller may name any model."""

AWAITED_MS = 1_000
"""How long a caller is told to wait for what a probe finds out, which takes as long as a call."""

CREDENTIAL_REFUSED = (
    "The upstream refused the credential of this proxy, not yours. Whoever runs the proxy must renew it."
)


class Cycle:
    """Upstreams by turns, each as often as its weight says, spread evenly: smooth weighted round robin, as in nginx."""

    __slots__ = ("_at", "_turns", "members")

    def __init__(self, members: Sequence[Upstream]) -> None:
        self.members = tuple(members)
        self._turns = _turns(self.members)
        self._at = 0

    @property
    def priority(self) -> int:
        return self.members[0].priority

    def take(self) -> Upstream:
        """Whose turn it is."""
        at = self._at
        self._at = at + 1 if at + 1 < len(self._turns) else 0
        return self._turns[at]


@dataclass(slots=True)
class Route:
    """Where the calls of one model and project may go, as long as nothing changes."""

    model: str
    counted_as: str
    """As Google does: a model, or a free operation of it. Outages are of these."""
    members: tuple[Upstream, ...]
    """All that serve such calls, the lowest priority number first."""
    tiers: tuple[Cycle, ...] = ()
    """Those that are in, by priority."""
    probes: tuple[Upstream, ...] = ()
    """Those whose time is over, and of which nobody knows yet whether they are back."""
    generation: int = -1
    valid_until: float = 0.0


class Selection:
    """The upstream that a call is to go to; then, as long as there is one, the `next`."""

    __slots__ = ("_pool", "_route", "_tried", "_wait_ms", "probe", "upstream")

    def __init__(self, pool: Pool, route: Route, upstream: Upstream, *, probe: bool) -> None:
        self._pool = pool
        self._route = route
        self._tried: tuple[Upstream, ...] = ()
        self._wait_ms: int | None = None
        self.upstream = upstream
        self.probe = probe
        """Its time is over, and nobody knows whether it is back: to be claimed before it is asked."""

    def full(self, wait_ms: int) -> None:
        """The upstream has no room in its own quota, for so long."""
        self._wait_ms = min(wait_ms, self._wait_ms or wait_ms)

    def next(self) -> bool:
        """Goes on to one that this call hasn't tried; False where there is none."""
        self._tried += (self.upstream,)
        found = self._pool.first(self._route, self._tried)
        if found is None:
            return False
        self.upstream, self.probe = found
        return True

    def first_back(self) -> Upstream | None:
        """The one that is back first, where all have used up their quota; else None."""
        found = self._pool.first_back(self._route)
        return found[0] if found else None

    def none_left(self) -> ProxyRefused:
        """Why the call goes nowhere, for its caller."""
        return self._pool.none(self._route, self._wait_ms)


class Pool:
    """All upstreams of one configuration."""

    def __init__(self, upstreams: Sequence[Upstream], health: Health) -> None:
        self.upstreams = tuple(sorted(upstreams, key=lambda upstream: upstream.priority))
        self.health = health
        self._routes: dict[tuple[str, str, str, str], Route] = {}
        self._cycles: dict[tuple[Upstream, ...], Cycle] = {}  # shared, so that shares hold over all models together

    def select(self, model: str, project: str, affinity: str = "", counted_as: str | None = None) -> Selection:
        """Where a call goes. `affinity` names the only upstream that it may go to: what it is about exists only there.
        `counted_as`: see `Call`; if not given, the model.

        Costs the same however many upstreams there are. Raises ProxyRefused NO_UPSTREAM, UPSTREAM_CREDENTIAL_REFUSED.
        """
        key = model, project, affinity, model if counted_as is None else counted_as
        route = self._routes.get(key)
        if route is None:
            route = self._route(*key)
        found = self.first(route)
        if found is None:
            raise self.none(route)
        return Selection(self, route, found[0], probe=found[1])

    def serves(self, model: str, project: str) -> bool:
        """Whether an upstream that isn't disabled is for a project's calls of a model, be it out at present or not."""
        disabled = self.health.disabled
        return any(one.serves(model, project) for one in self.upstreams if one.name not in disabled)

    def first(self, route: Route, tried: tuple[Upstream, ...] = ()) -> tuple[Upstream, bool] | None:
        """The upstream to ask, and whether that is a probe; None where all are out, or tried."""
        health = self.health
        if route.generation != health.generation or (
            route.valid_until != math.inf and health.now() >= route.valid_until
        ):
            self._renew(route)
        tiers = route.tiers
        for probe in route.probes:
            wanted = not tiers or probe.priority <= tiers[0].priority or tried
            if wanted and probe not in tried and health.unprobed(probe.name, route.counted_as):
                return probe, True
        if not tried:
            return (tiers[0].take(), False) if tiers else None
        for tier in tiers:
            if left := [member for member in tier.members if member not in tried]:
                return self._cycle(tuple(left)).take(), False
        return None

    def first_back(self, route: Route) -> tuple[Upstream, Outage] | None:
        """Of a route all of whose upstreams have used up their quota, the one that is back first; else None."""
        enabled = self._enabled(route)
        found = [(one, self.health.outage(one.name, route.counted_as)) for one in enabled]
        outages = [(one, outage) for one, outage in found if outage and outage.why is Why.RATE_LIMITED]
        if len(outages) < len(enabled):
            return None
        return min(outages, key=lambda pair: pair[1].until, default=None)

    def none(self, route: Route, wait_ms: int | None = None) -> ProxyRefused:
        """Why such calls go nowhere. `wait_ms`: when one of them has room in its own quota."""
        model = f"the model {route.model}" if route.model else "such calls"
        if not route.members:
            return NoUpstream(
                f"No upstream of this proxy serves {model} for your project. Its operator can change that."
            )
        enabled = self._enabled(route)
        if not enabled:
            return NoUpstream(
                f"Every upstream that serves {model} is disabled. The proxy's operator can enable one: "
                "`weighbridge upstreams`."
            )
        found = [self.health.outage(one.name, route.counted_as) for one in enabled]
        outages = [outage for outage in found if outage]
        now = self.health.now()
        waits = [_wait_ms(outage, now) for outage in outages]
        if wait_ms is not None:
            waits.append(wait_ms)
        if outages and all(outage.why is Why.CREDENTIAL_REFUSED for outage in outages) and wait_ms is None:
            return ProxyRefused(Reason.UPSTREAM_CREDENTIAL_REFUSED, CREDENTIAL_REFUSED)
        told = None
        if wait_ms is None and (back := self.first_back(route)) and (said := back[1].exhausted):
            told = said.told_again(_wait_ms(back[1], now) / 1000)
        return NoUpstream(
            f"Every upstream that serves {model} is out now, or has no room in its quota. Try again later; the proxy's "
            "operator sees which and why: `weighbridge upstreams`.",
            min(waits, default=None),
            told,
        )

    def _route(self, model: str, project: str, affinity: str, counted_as: str) -> Route:
        members = [one for one in self.upstreams if one.serves(model, project) and affinity in ("", one.name)]
        if len(self._routes) >= REMEMBERED:
            self._routes.clear()
        made = self._routes[model, project, affinity, counted_as] = Route(model, counted_as, tuple(members))
        return made

    def _enabled(self, route: Route) -> list[Upstream]:
        return [one for one in route.members if one.name not in self.health.disabled]

    def _renew(self, route: Route) -> None:
        """Looks at what has changed. One that is alone is asked whatever is known: what it answers is worth more.

        Where nobody is in, those whose overload is over are: a call may take a minute, and so long a probe.
        """
        health, now = self.health, self.health.now()
        route.generation = health.generation
        enabled = self._enabled(route)
        alone = len(enabled) == 1
        well, probes, rested, until = [], [], [], math.inf
        for one in enabled:
            outage = None if alone else health.outage(one.name, route.counted_as)
            if outage is None:
                well.append(one)
            elif now >= outage.until:
                probes.append(one)
                if outage.why is Why.OVERLOADED:
                    rested.append(one)
            else:
                until = min(until, outage.until)
        if not well:
            well, probes = rested, [one for one in probes if one not in rested]
        priorities = dict.fromkeys(one.priority for one in well)
        route.tiers = tuple(self._cycle(tuple(one for one in well if one.priority == of)) for of in priorities)
        route.probes, route.valid_until = tuple(probes), until

    def _cycle(self, members: tuple[Upstream, ...]) -> Cycle:
        cycle = self._cycles.get(members)
        if cycle is None:
            if len(self._cycles) >= REMEMBERED:
                self._cycles.clear()
            cycle = self._cycles[members] = Cycle(members)
        return cycle


def _wait_ms(outage: Outage, now: float) -> int:
    return max(int((outage.until - now) * 1000), 1) if now < outage.until else AWAITED_MS


def _turns(members: Sequence[Upstream]) -> tuple[Upstream, ...]:
    """Each upstream as often as its weight; of those that are due the one that is due most."""
    divisor = math.gcd(*(one.weight for one in members))
    weights = [one.weight // divisor for one in members]
    due, turns = [0] * len(weights), []
    for _ in range(sum(weights)):
        due = [have + weight for have, weight in zip(due, weights, strict=True)]
        most = due.index(max(due))
        due[most] -= sum(weights)
        turns.append(members[most])
    return tuple(turns)
