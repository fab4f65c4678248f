"""The two clocks of a client's connection: one for what the client owes us, one for what it leaves unread."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle, WriteTransport
from collections.abc import Callable
from math import inf

STALL_LOOKS = 8
"""How often we look, in the time that a client may leave its response unread, whether it has read some."""
TICK = 0.002
"""Timers are rounded to milliseconds."""


class Deadline:
    """Until when something must have happened. Set for every request: so a timer that is due earlier is left to look
    again, for setting one costs more than all else here."""

    __slots__ = ("_loop", "_overdue", "_timer", "at")

    def __init__(self, loop: AbstractEventLoop, overdue: Callable[[], object]) -> None:
        """`overdue` is called, on the loop, when the deadline has passed; there is none then."""
        self._loop = loop
        self._overdue = overdue
        self._timer: TimerHandle | None = None
        self.at = inf
        """In the loop's time; inf where nothing is due."""

    def set(self, seconds: float) -> None:
        """From now."""
        self.at = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self.at:
            self._set_timer()

    def clear(self) -> None:
        """Nothing is due any more."""
        self.at = inf

    def cancel(self) -> None:
        """For good: nothing is called after it, and nothing is held that would hold this."""
        self._overdue = _nothing
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self.at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() >= self.at - TICK:
            self.at = inf
            self._overdue()
        elif self.at != inf:
            self._set_timer()


class StallWatch:
    """Whether a client goes on reading while bytes wait for it. It may begin and end many times in one response: so its
    timer, too, is left to look again."""

    __slots__ = (
        "_least",
        "_loop",
        "_patience_s",
        "_stalled",
        "_stalled_at",
        "_timer",
        "_transport",
        "_unsent",
        "_watching",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        transport: WriteTransport,
        patience_s: float,
        stalled: Callable[[], object],
        least: int = 1,
    ) -> None:
        """`stalled` is called, on the loop, once the client has taken fewer than `least` bytes in `patience_s`."""
        self._loop = loop
        self._transport = transport
        self._patience_s = patience_s
        self._least = least
        self._stalled = stalled
        self._watching = False
        self._stalled_at = inf
        self._unsent = 0
        self._timer: TimerHandle | None = None

    def begin(self) -> None:
        """Bytes wait for it from now on."""
        if self._watching:
            return
        self._watching = True
        self._unsent = self._transport.get_write_buffer_size()
        self._stalled_at = self._loop.time() + self._patience_s
        if self._timer is None:
            self._look_again()

    def end(self) -> None:
        """All has been taken."""
        self._watching = False

    def cancel(self) -> None:
        """For good: nothing is called after it, and nothing is held that would hold this."""
        self._stalled = _nothing
        self._watching = False
        if self._timer is not None:
            self._timer.cancel()

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(self._patience_s / STALL_LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._watching:
            return
        if self._transport.get_write_buffer_size() <= self._unsent - self._least:
            self._watching = False
            self.begin()
        elif self._loop.time() < self._stalled_at - TICK:
            self._look_again()
        else:
            self._stalled()


def _nothing() -> None:
    pass
