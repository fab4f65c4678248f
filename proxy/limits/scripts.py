"""The Lua scripts: what each is given, and how its answer reads. They are the algorithm (algorithm.py) within Redis.

All keys of a project have its name as hash tag, so that one node of a cluster holds them:

    wb:{alice}:rpm                    a counter, by its name; a day's has ":" and the day behind it
    wb:{alice}:usd:month:2026-11      a budget's account, likewise with its period
    wb:{alice}:leases:<worker>        hash: what the worker's open leases hold, for whoever comes after it
    wb:{alice}:stated                 hash: of which counters each worker has stated what it took before, and which
                                      process of it last; and which outage's takings it put in last
    wb:{alice}:cancelled:<lease>      a cancel that overtook its reserve

Those of the register (roll.py) are alike:

    wb:{@workers}:live                hash: when each process was heard last
    wb:{@workers}:began               hash: since when each process has been there
    wb:{@workers}:asked               stream: which processes join and leave, and of which accounts all shall tell
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from proxy.limits.algorithm import Lease, State, Window
from proxy.limits.interface import (
    BUCKETS,
    CANCELLED,
    CORRECTED,
    GRANTED,
    WINDOWS,
    Counter,
    Hold,
    Over,
    Taken,
    Verdict,
    period,
)
from proxy.limits.money import Account, Money
from proxy.store.redis_stream import Script, Value

REFUSED_CODE, GRANTED_CODE, CANCELLED_CODE, UNSTATED_CODE, UNTOLD_CODE = range(5)
"""The last two are no verdicts: this process has yet to state what its worker took of a counter; or another, of a
budget."""

NOBODY_ELSES = "@rest"
"""In place of a worker, in what is untold: what is of none that lives."""
WORKERS = "@workers"
"""In place of a project, in the names of what all processes share: a name that no project can have."""
REGISTER, ASKED, BEGAN = (f"wb:{{{WORKERS}}}:{name}" for name in ("live", "asked", "began"))
"""The register, the stream of questions, and since when each process has been there."""

ALONE, WHOLE = "alone", "whole"
"""What a worker took in an outage; all that it took, of which at least so much is to be counted."""

AGAIN, MINE, DISK, REST = "again", "mine", "disk", "rest"
"""How a worker says what it spent of a budget: only where it had, so that nobody's word is wanting but what it may have
missed; for the first time; with it what those did whose files are on its disk; or what all did who can't say it."""

ANY_EPOCH = "*"
"""Of what an earlier process of this worker left: it is ended in whatever epoch that stated it."""

_WINDOWS = {60: "minute", 600: "ten_minutes"}
_MECHANICS = {kind: _WINDOWS[length_s] for kind, length_s in WINDOWS.items()}
_MECHANICS |= {"rpd": "day", "concurrency": "open", "usd": "money"}
"""How each kind is counted, in the words of the Lua."""


def _script(name: str) -> Script:
    here = files(__package__)
    return Script((here / "counters.lua").read_text("utf-8") + (here / f"{name}.lua").read_text("utf-8"))


_NAMES = ("reserve", "settle", "state", "used", "renew", "beat")
ALL = RESERVE, SETTLE, STATE, USED, RENEW, BEAT = tuple(map(_script, _NAMES))


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
    epoch: str = ""
    """In which its money stands in accounts. It stands last, for has_lease (counters.lua); "": of an older version."""


_Values = tuple[str, str, str, str, list[Value]]
"""Of a counter: its key, how it is counted, its mark, how it is put in, and what stands in it."""

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Entry).decode


class Rest(NamedTuple):
    """What is said of others with what a worker says of itself."""

    live: Collection[str]
    """They will say themselves what they spent."""
    dead: Collection[str]
    """They won't, also where it was thought that they would."""
    spent: Mapping[str, Money]
    """By whom, as far as anybody knows; what those who are live say themselves comes before that."""


class Change(NamedTuple):
    """What a settle adds to an account: nano-dollars."""

    account: str
    """Its name, with its period."""
    spent: int
    held: int


class Scripts:
    """Commands in the name of one worker, which has one ledger file.

    What it states of money stands as long as it is in the same `epoch`; in another one it is stated anew.
    """

    def __init__(self, worker: str, epoch: str = "") -> None:
        self.worker = worker
        self.epoch = self.began = epoch

    def reserve(self, lease_id: str, lease: Entry, holds: Sequence[Hold]) -> Command:
        project, day = holds[0].counter.project, lease.day
        keys = [*self._keys(project), f"wb:{{{project}}}:cancelled:{lease_id}"]
        arguments: list[Value] = [lease_id, self._entry(lease), self.began]
        for counter, amount in holds:
            keys.append(_key(counter.name, counter.kind, day))
            shadow = "shadow" if counter.shadow else ""
            arguments += (
                _MECHANICS[counter.kind],
                amount,
                counter.value,
                shadow,
                self._mark(counter.name, counter.kind),
            )
        return Command(project, RESERVE, (len(keys), *keys, *arguments))

    def settle(
        self,
        project: str,
        lease_id: str,
        lease: Entry | None,
        actual: Mapping[str, int],
        money: Iterable[Change] = (),
        epoch: str = "",
    ) -> Command:
        """Corrects by kind what was held by estimate, and counts money. Without a lease, money alone."""
        changes = [
            (name, kind, actual[kind] - amount if kind in CORRECTED and kind in actual else 0)
            for name, kind, amount in (lease.holds if lease else ())
        ]
        return self._end(project, lease_id, lease.day if lease else "", changes, money, "", epoch)

    def cancel(self, project: str, lease_id: str, lease: Entry, epoch: str = "") -> Command:
        """Gives all back."""
        changes = [(name, kind, -amount) for name, kind, amount in lease.holds]
        return self._end(project, lease_id, lease.day, changes, held_money(lease), "cancel", epoch)

    def _end(
        self,
        project: str,
        lease_id: str,
        day: str,
        changes: Iterable[tuple[str, str, int]],
        money: Iterable[Change],
        how: str,
        epoch: str,
    ) -> Command:
        keys = [*self._keys(project), f"wb:{{{project}}}:cancelled:{lease_id}"]
        arguments: list[Value] = [lease_id, how]
        for name, kind, difference in changes:
            if (difference and kind != "usd") or kind == "concurrency":
                keys.append(_key(name, kind, day))
                arguments += (_MECHANICS[kind], difference, self._mark(name, kind))
        for account, spent, held in money:
            keys.append(f"wb:{account}")
            arguments += ("money", f"{spent}|{held}", self._money_mark(epoch))
        return Command(project, SETTLE, (len(keys), *keys, *arguments))

    def used(self, day: str, counters: Sequence[Counter]) -> Command:
        project = counters[0].project
        keys = [self._keys(project)[0], *(_key(one.name, one.kind, day) for one in counters)]
        arguments: list[Value] = [self.began]
        for one in counters:
            arguments += (_MECHANICS[one.kind], self._mark(one.name, one.kind))
        return Command(project, USED, (len(keys), *keys, *arguments))

    def renew(self, project: str, name: str, lease_ids: Sequence[str]) -> Command:
        """`name` is that of the counter they are open in."""
        return Command(project, RENEW, (1, f"wb:{name}", *lease_ids))

    def beat(self, *, leaves: bool = False) -> Command:
        """Says that this worker is there; or that it leaves, and others needn't wait for what it would say."""
        left = "left" if leaves else ""
        return Command(WORKERS, BEAT, (3, REGISTER, ASKED, BEGAN, self.worker, left, self.began))

    def state_some(
        self,
        state: State,
        now_ms: int,
        day: str,
        counters: Sequence[Counter],
        how: str = MINE,
        rest: Rest | None = None,
    ) -> Command:
        """All that a state holds of some counters of one project, as WHOLE; of budgets, what `rest` says as well."""
        values: list[_Values] = []
        names = {one.name for one in counters}
        leases = {
            lease_id: lease
            for lease_id, lease in state.leases.items()
            if any(hold.counter.name in names for hold in lease.holds)
        }
        opened = _open(leases)
        for one in counters:
            if one.per:
                account = state.money.account(one, day)
                values.append(self._account(account, how, _of_others(one, day, rest) if rest else ()))
                continue
            of: list[Value] = [state.used(now_ms, day, one)]
            if one.kind == "concurrency":
                of = opened.get(one.name, [])
            elif one.kind != "rpd":
                of = _buckets(state.windows[one.name])
            key, mark = _key(one.name, one.kind, day), self._mark(one.name, one.kind)
            values.append((key, _MECHANICS[one.kind], mark, WHOLE, of))
        return self._state(counters[0].project, "", leases, values)

    def state_all(self, state: State, alone: State, outage: str) -> list[Command]:
        """All that a state holds; and of that, what was taken in an outage, by an id of its own: a command for each
        project."""
        values: defaultdict[str, list[_Values]] = defaultdict(list)
        leases: defaultdict[str, dict[str, Lease]] = defaultdict(dict)
        for project, of_project in self._counted(alone, ALONE):
            values[project].append(of_project)
        outages = dict.fromkeys(values, outage)
        for project, of_project in self._counted(state, WHOLE):
            values[project].append(of_project)
        for name, opened in _open(state.leases).items():
            values[_project(name)].append((f"wb:{name}", "open", self._mark(name), WHOLE, opened))
        for lease_id, lease in state.leases.items():
            leases[lease.holds[0].counter.project][lease_id] = lease
        for account in state.money.accounts():
            values[account.counter.project].append(self._account(account, AGAIN))
        return [
            self._state(project, outages.get(project, ""), leases[project], values[project])
            for project in values.keys() | leases.keys()
        ]

    def _counted(self, state: State, how: str) -> Iterator[tuple[str, _Values]]:
        """Windows and days, and whose they are."""
        for name, window in state.windows.items():
            mechanic = _WINDOWS[window.width_s * BUCKETS]
            yield _project(name), (f"wb:{name}", mechanic, self._mark(name), how, _buckets(window))
        for key, count in state.days.items():
            name = key.rpartition(":")[0]
            yield _project(name), (f"wb:{key}", "day", self._mark(name), how, [count[0]])

    def _state(self, project: str, outage: str, leases: Mapping[str, Lease], values: Iterable[_Values]) -> Command:
        keys = [*self._keys(project)]
        arguments: list[Value] = [outage, self.worker, self.began, len(leases)]
        for lease_id, lease in leases.items():
            arguments += (lease_id, lease.second, self._entry(held(lease.day, lease.holds)))
        for key, mechanic, mark, how, of in values:
            keys.append(key)
            arguments += (mechanic, mark, how, len(of), *of)
        return Command(project, STATE, (len(keys), *keys, *arguments))

    def _entry(self, lease: Entry) -> bytes:
        return _encode(Entry(lease.day, lease.holds, self.epoch))

    def leases(self, project: str) -> tuple[Value, ...]:
        """The Redis command that lists the worker's leases; `entries` reads its answer."""
        return "HGETALL", self._keys(project)[1]

    def _account(self, account: Account, how: str, others: Iterable[Value] = ()) -> _Values:
        return f"wb:{account.name}", "money", self._money_mark(), how, [account.spent, account.held, *others]

    def _mark(self, name: str, kind: str = "") -> str:
        """What says that this worker has stated what it took of a counter."""
        return self._money_mark() if kind == "usd" else f"{self.worker}:{name}"

    def _money_mark(self, epoch: str = "") -> str:
        return f"{self.worker}|{epoch or self.epoch}"

    def _keys(self, project: str) -> tuple[str, str]:
        return f"wb:{{{project}}}:stated", f"wb:{{{project}}}:leases:{self.worker}"


def held(day: str, holds: Sequence[Hold]) -> Entry:
    """What a lease holds."""
    return Entry(day, [(counter.name, counter.kind, amount) for counter, amount in holds])


def held_money(lease: Entry) -> list[Change]:
    """Gives back what a lease holds of money."""
    return [
        Change(_key(name, kind, lease.day).removeprefix("wb:"), 0, -amount)
        for name, kind, amount in lease.holds
        if kind == "usd"
    ]


def spent_money(accounts: Iterable[Account], usd: int, lease: Entry | None) -> list[Change]:
    """What the end of a call changes: what it held, and in the accounts that it counts in, what it spent."""
    changes = {change.account: change for change in held_money(lease)} if lease else {}
    for account in accounts if usd else ():
        held = changes.get(account.name, Change(account.name, 0, 0)).held
        changes[account.name] = Change(account.name, usd, held)
    return list(changes.values())


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
        _over(holds[index], used, rest)
        for index, used, rest in zip(answer[2::3], answer[3::3], answer[4::3], strict=True)
    )


def taken(answer: Sequence[Any]) -> list[Taken]:
    """What used.lua answered, where that isn't UNSTATED_CODE."""
    return [Taken(int(used), int(held)) for used, held in zip(answer[2::2], answer[3::2], strict=True)]


def untold(answer: Sequence[Any]) -> dict[int, list[str]]:
    """Who has yet to say what they spent, by the indexes of budgets, where the answer is UNTOLD_CODE."""
    return {index: ids.decode().split() for index, ids in zip(answer[2::2], answer[3::2], strict=True)}


def is_account(key: bytes, budget: Counter, day: str) -> bool:
    """Whether a key is that of a budget's account, for the period that `day` lies in."""
    return key.decode() == _key(budget.name, budget.kind, day)


def _of_others(budget: Counter, day: str, rest: Rest) -> Iterator[Value]:
    for worker in rest.live:
        yield worker
        yield "?"
    for worker, money in rest.spent.items():
        if worker not in rest.live:
            yield worker
            yield f"{'' if worker in rest.dead else '+'}{money.account(budget, day).spent}"


def _over(hold: Hold, used: int, rest: int) -> Over:
    """`rest`: the wait, -1 for none; or of money what is held."""
    if hold.counter.per:
        return Over(hold.counter, used, hold.amount, None, rest)
    return Over(hold.counter, used, hold.amount, None if rest < 0 else rest)


def _key(name: str, kind: str, day: str) -> str:
    if kind == "usd":
        return f"wb:{name}:{period(name.rpartition(':')[2], day)}"
    return f"wb:{name}:{day}" if kind == "rpd" else f"wb:{name}"


def _buckets(window: Window) -> list[Value]:
    """Number and amount of each by turns."""
    return [part for bucket in window.buckets.items() for part in bucket]


def _open(leases: Mapping[str, Lease]) -> dict[str, list[Value]]:
    """Open leases, by the counters of what is open."""
    found: dict[str, list[Value]] = {}
    for lease_id, lease in leases.items():
        for counter, _ in lease.holds:
            if counter.kind == "concurrency":
                found.setdefault(counter.name, []).append(lease_id)
    return found


def _project(name: str) -> str:
    """Whose a counter is: what is in the braces that its name begins with."""
    return name[1 : name.index("}")]
