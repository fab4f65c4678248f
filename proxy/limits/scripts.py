"""The Lua scripts: what each is given, and how its answer reads. They are the algorithm (algorithm.py) within Redis.

All keys of a project have its name as hash tag, so that one node of a cluster holds them:

    wb:{alice}:rpm                    a counter, by its name; a day's has ":" and the day behind it
    wb:{alice}:leases:<worker>        hash: what the worker's open leases hold, for whoever comes after it
    wb:{alice}:stated                 hash: of which counters each worker has stated what it took before
    wb:{alice}:cancelled:<lease>      a cancel that overtook its reserve
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from proxy.limits.algorithm import Lease, State, Window
from proxy.limits.interface import CANCELLED, CORRECTED, GRANTED, MINUTES, Counter, Hold, Over, Verdict
from proxy.store.redis_stream import Script, Value

REFUSED_CODE, GRANTED_CODE, CANCELLED_CODE, UNSTATED_CODE = range(4)

WHOLE = "whole"
"""All that a worker took: put in where it has stated nothing, or nothing that is still there."""

_MECHANICS = dict.fromkeys(MINUTES, "minute") | {"rpd": "day", "concurrency": "open"}
"""How each kind is counted, in the words of the Lua."""


def _script(name: str) -> Script:
    here = files(__package__)
    return Script((here / "counters.lua").read_text("utf-8") + (here / f"{name}.lua").read_text("utf-8"))


ALL = RESERVE, SETTLE, STATE, USED, RENEW = tuple(map(_script, ("reserve", "settle", "state", "used", "renew")))


class Command(NamedTuple):
    """A script with its keys and arguments, and the project whose keys they are."""

    project: str
    script: Script
    arguments: tuple[Value, ...]


class Entry(msgspec.Struct, array_like=True):
    """What a lease holds, as Redis keeps it: enough to settle it for whoever finds it."""

    day: str
    holds: list[tuple[str, str, int]]
    """Name and kind of each counter, and the amount."""


_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Entry).decode


class Scripts:
    """Commands in the name of one worker, which has one ledger file."""

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def reserve(self, lease_id: str, lease: Entry, holds: Sequence[Hold]) -> Command:
        project, day = holds[0].counter.project, lease.day
        keys = [*self._keys(project), f"wb:{{{project}}}:cancelled:{lease_id}"]
        arguments: list[Value] = [lease_id, _encode(lease)]
        for counter, amount in holds:
            keys.append(_key(counter.name, counter.kind, day))
            shadow = "shadow" if counter.shadow else ""
            mark = f"{self._worker}:{counter.name}"
            arguments += (_MECHANICS[counter.kind], amount, counter.value, shadow, mark)
        return Command(project, RESERVE, (len(keys), *keys, *arguments))

    def settle(self, project: str, lease_id: str, lease: Entry, actual: Mapping[str, int]) -> Command:
        """Corrects by kind what was held by estimate."""
        changes = [
            (name, kind, actual[kind] - amount if kind in CORRECTED and kind in actual else 0)
            for name, kind, amount in lease.holds
        ]
        return self._end(project, lease_id, lease.day, changes, "")

    def cancel(self, project: str, lease_id: str, lease: Entry) -> Command:
        """Gives all back."""
        return self._end(
            project, lease_id, lease.day, [(name, kind, -amount) for name, kind, amount in lease.holds], "cancel"
        )

    def _end(self, project: str, lease_id: str, day: str, changes: Iterable[tuple[str, str, int]], how: str) -> Command:
        keys = [*self._keys(project), f"wb:{{{project}}}:cancelled:{lease_id}"]
        arguments: list[Value] = [lease_id, how]
        for name, kind, difference in changes:
            if difference or kind == "concurrency":
                keys.append(_key(name, kind, day))
                arguments += (_MECHANICS[kind], difference, f"{self._worker}:{name}")
        return Command(project, SETTLE, (len(keys), *keys, *arguments))

    def used(self, day: str, counters: Sequence[Counter]) -> Command:
        project = counters[0].project
        keys = [self._keys(project)[0], *(_key(one.name, one.kind, day) for one in counters)]
        arguments: list[Value] = []
        for one in counters:
            arguments += (_MECHANICS[one.kind], f"{self._worker}:{one.name}")
        return Command(project, USED, (len(keys), *keys, *arguments))

    def renew(self, project: str, name: str, lease_ids: Sequence[str]) -> Command:
        """`name` is that of the counter they are open in."""
        return Command(project, RENEW, (1, f"wb:{name}", *lease_ids))

    def state_some(self, state: State, now_ms: int, day: str, counters: Sequence[Counter]) -> Command:
        """All that a state holds of some counters of one project, as WHOLE."""
        values: dict[str, tuple[str, str, list[Value]]] = {}
        names = {one.name for one in counters}
        leases = {
            lease_id: lease
            for lease_id, lease in state.leases.items()
            if any(hold.counter.name in names for hold in lease.holds)
        }
        for one in counters:
            taken = state.used(now_ms, day, one)
            of: list[Value] = [taken]
            if one.kind == "concurrency":
                of = [i for i, lease in leases.items() if any(hold.counter.name == one.name for hold in lease.holds)]
            elif one.kind != "rpd":
                of = _buckets(state.windows[one.name])
            values[_key(one.name, one.kind, day)] = _MECHANICS[one.kind], one.name, of
        return self._state(counters[0].project, WHOLE, leases, values)

    def state_all(self, state: State, what: str) -> list[Command]:
        """All that a state holds, as WHOLE or as an outage by an id of its own: a command for each project."""
        values: dict[str, dict[str, tuple[str, str, list[Value]]]] = {}
        leases: dict[str, dict[str, Lease]] = {}
        for name, window in state.windows.items():
            values.setdefault(_project(name), {})[f"wb:{name}"] = "minute", name, _buckets(window)
        for key, count in state.days.items():
            name = key.rpartition(":")[0]
            values.setdefault(_project(name), {})[f"wb:{key}"] = "day", name, [count[0]]
        for lease_id, lease in state.leases.items():
            project = lease.holds[0].counter.project
            leases.setdefault(project, {})[lease_id] = lease
            for counter, _ in lease.holds:
                if counter.kind == "concurrency":
                    fresh: tuple[str, str, list[Value]] = ("open", counter.name, [])
                    values.setdefault(project, {}).setdefault(f"wb:{counter.name}", fresh)[2].append(lease_id)
        return [
            self._state(project, what, leases.get(project, {}), values.get(project, {}))
            for project in values.keys() | leases.keys()
        ]

    def _state(
        self,
        project: str,
        what: str,
        leases: Mapping[str, Lease],
        values: Mapping[str, tuple[str, str, list[Value]]],
    ) -> Command:
        keys = [*self._keys(project), *values]
        arguments: list[Value] = [what, self._worker, len(leases)]
        for lease_id, lease in leases.items():
            arguments += (lease_id, b"%d|%b" % (lease.second, _encode(held(lease.day, lease.holds))))
        for mechanic, name, of in values.values():
            arguments += (mechanic, f"{self._worker}:{name}", len(of), *of)
        return Command(project, STATE, (len(keys), *keys, *arguments))

    def leases(self, project: str) -> tuple[Value, ...]:
        """The Redis command that lists the worker's leases; `entries` reads its answer."""
        return "HGETALL", self._keys(project)[1]

    def _keys(self, project: str) -> tuple[str, str]:
        return f"wb:{{{project}}}:stated", f"wb:{{{project}}}:leases:{self._worker}"


def held(day: str, holds: Sequence[Hold]) -> Entry:
    """What a lease holds."""
    return Entry(day, [(counter.name, counter.kind, amount) for counter, amount in holds])


def entries(answer: Sequence[bytes]) -> dict[str, Entry]:
    """Leases, by their ids."""
    pairs = zip(answer[::2], answer[1::2], strict=True)
    return {lease_id.decode(): _decode(text.partition(b"|")[2]) for lease_id, text in pairs}


def verdict(answer: Sequence[Any], holds: Sequence[Hold]) -> Verdict:
    """What reserve.lua answered, where that isn't UNSTATED_CODE."""
    if answer[1] == CANCELLED_CODE:
        return CANCELLED
    if len(answer) == 2:
        return GRANTED
    return Verdict.of(
        Over(holds[index].counter, used, holds[index].amount, None if wait_ms < 0 else wait_ms)
        for index, used, wait_ms in zip(answer[2::3], answer[3::3], answer[4::3], strict=True)
    )


def _key(name: str, kind: str, day: str) -> str:
    return f"wb:{name}:{day}" if kind == "rpd" else f"wb:{name}"


def _buckets(window: Window) -> list[Value]:
    """Second and amount by turns."""
    return [part for bucket in window.buckets.items() for part in bucket]


def _project(name: str) -> str:
    """Whose a counter is: what is in the braces that its name begins with."""
    return name[1 : name.index("}")]
