"""`weighbridge` with a trap: the process kills itself (SIGKILL) at one step of a call. Run with python -m, as proxy is.

What passes by is looked at from outside, by wrapping functions of the package: nothing of it knows of a trap.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import Any

When = Enum("When", "BEFORE AFTER")
BEFORE, AFTER = When.BEFORE, When.AFTER


class Left(Enum):
    """What the ledger file holds of a call that was stopped at a step, and thus what the next start makes of it."""

    NOTHING = "no record"
    HANDED = "no record, or unsettled: the writer's thread may be quicker than the kill"
    LEASE = "unsettled"
    RECORD = "settled"


@dataclass(frozen=True)
class Step:
    """`target` is module:function or module:Class.method; the process ends at its `number`th passing.

    They are counted from the first call on, or from the start (`at_start`). At a step without a target the test kills.
    """

    target: str
    when: When
    left: Left
    number: int = 1
    at_start: bool = False
    whole: bool = False
    """The client may have all of the response by then."""


COMMIT = "COMMIT"
UP_WHOLE = "request up whole, not answered"
DOWN_WHOLE = "response down whole"
STEPS = {
    "parsed": Step("proxy.gemini.calls:parse", AFTER, Left.NOTHING),
    "authenticated": Step("proxy.gateway.relay:Relay.authenticate", AFTER, Left.NOTHING),
    "body taken in": Step("proxy.gateway.intake:Intake.take_in", AFTER, Left.NOTHING),
    "body looked through": Step("proxy.gateway.relay:Relay._look", AFTER, Left.NOTHING),
    "lease to be opened": Step("proxy.billing.ledger:Ledger.open_lease", BEFORE, Left.NOTHING),
    "lease handed to the writer": Step("proxy.billing.ledger:Ledger._post", AFTER, Left.HANDED),
    "lease in the transaction": Step(COMMIT, BEFORE, Left.NOTHING),
    "lease committed, not told": Step(COMMIT, AFTER, Left.LEASE),
    "lease committed": Step("proxy.billing.ledger:Ledger.open_lease", AFTER, Left.LEASE),
    "first byte about to go up": Step("proxy.gateway.weighing:Weighing.goes_up", AFTER, Left.LEASE),
    "request handed to the transport": Step("proxy.upstreams.round_trip:RoundTrip._wait", BEFORE, Left.LEASE),
    UP_WHOLE: Step("", AFTER, Left.LEASE),
    "first byte came down": Step("proxy.upstreams.incoming:Incoming.feed", BEFORE, Left.LEASE),
    "response's head read": Step("proxy.gateway.weighing:Weighing.meter", BEFORE, Left.LEASE),
    "first piece on the meter": Step("proxy.gateway.meter:Meter.feed", AFTER, Left.LEASE),
    "in the midst of the body": Step("proxy.gateway.meter:Meter.feed", AFTER, Left.LEASE, 2),
    "body over": Step("proxy.gateway.weighing:Weighing.settle", BEFORE, Left.LEASE),
    "record to be written": Step("proxy.billing.ledger:Ledger.write", BEFORE, Left.LEASE),
    "record's transaction to begin": Step("proxy.billing.ledger_file:LedgerFile.commit", BEFORE, Left.LEASE, 2),
    "record in the transaction": Step(COMMIT, BEFORE, Left.LEASE, 2),
    "closing out the one before, in the transaction": Step(COMMIT, BEFORE, Left.LEASE, 2, at_start=True),
    "closing out the one before, committed": Step(COMMIT, AFTER, Left.LEASE, 2, at_start=True),
    "record committed, not told": Step(COMMIT, AFTER, Left.RECORD, 2),
    "record committed": Step("proxy.billing.ledger:Ledger.write", AFTER, Left.RECORD),
    "last byte about to leave": Step("proxy.gateway.client:Client.end", BEFORE, Left.RECORD),
    "last byte handed to the transport": Step("proxy.gateway.client:Client.end", AFTER, Left.RECORD, whole=True),
    "call over": Step("proxy.telemetry.metrics:Metrics.finished", AFTER, Left.RECORD, whole=True),
    DOWN_WHOLE: Step("", AFTER, Left.RECORD, whole=True),
}
"""Those of docs/one-call.md, and those between. The first commit of a start brings the tables up to date."""


class Trap:
    """Counts the passings of one step, and ends the process at the right one."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._left = step.number
        self.armed = step.at_start

    def pass_by(self, when: When) -> None:
        if self.armed and when is self._step.when:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def wrapped(function: Callable[..., Any], trap: Trap) -> Callable[..., Any]:
    @functools.wraps(function)
    async def waits(*given: Any, **named: Any) -> Any:
        trap.pass_by(BEFORE)
        result = await function(*given, **named)
        trap.pass_by(AFTER)
        return result

    @functools.wraps(function)
    def returns(*given: Any, **named: Any) -> Any:
        trap.pass_by(BEFORE)
        result = function(*given, **named)
        trap.pass_by(AFTER)
        return result

    return waits if inspect.iscoroutinefunction(function) else returns


def place(target: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts something else in the place of a function or method of the package."""
    module, _, path = target.partition(":")
    owner: Any = import_module(module)
    *classes, name = path.split(".")
    for class_ in classes:
        owner = getattr(owner, class_)
    setattr(owner, name, change(getattr(owner, name)))


def watch_commits(trap: Trap) -> None:
    """The ledger's commits, as its connection is told them."""

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            if sql != COMMIT:
                return super().execute(sql, *given)
            trap.pass_by(BEFORE)
            result = super().execute(sql, *given)
            trap.pass_by(AFTER)
            return result

    place("proxy.billing.ledger_file:_connect", lambda connect: functools.partial(connecting, connect, Watched))


def connecting(connect: Callable[..., Any], factory: type[sqlite3.Connection], *given: Any) -> Any:
    ordinary = sqlite3.connect
    sqlite3.connect = functools.partial(ordinary, factory=factory)  # type: ignore[assignment]
    try:
        return connect(*given)
    finally:
        sqlite3.connect = ordinary


def arming(trap: Trap) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def change(function: Callable[..., Any]) -> Callable[..., Any]:
        async def armed(*given: Any) -> None:
            trap.armed = True
            await function(*given)

        return armed

    return change


def set_trap(name: str) -> None:
    """Lets the process end at this step; at none where the name is empty."""
    if not name:
        return
    step = STEPS[name]
    trap = Trap(step)
    if step.target == COMMIT:
        watch_commits(trap)
    elif step.target:
        place(step.target, lambda function: wrapped(function, trap))
    place("proxy.gateway.relay:Relay.__call__", arming(trap))


def serve_again_and_again() -> None:
    """For each step named on standard input a server, forked once all is imported, which takes a tenth of the time.

    Tells its process id before it starts, and how it ended.
    """
    from proxy.__main__ import main

    for line in sys.stdin:
        if child := os.fork():
            print(child, flush=True)
            print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            set_trap(line.strip())
            main()


if __name__ == "__main__":
    serve_again_and_again()
