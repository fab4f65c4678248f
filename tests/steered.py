"""uvloop with a clock that the test moves: two minutes pass in no time, and whatever waits for them happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class Timer:
    """What `call_at` gives: an asyncio.TimerHandle in what it does."""

    def __init__(self, loop: Steered, when: float, run: Callable[[], object], context: Context | None) -> None:
        self._loop, self._when, self._run = loop, when, run
        self._over = False
        self._real = uvloop.Loop.call_later(loop, max(0.0, when - loop.time()), self.fire, context=context)
        loop.timers.add(self)

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self._over = True
        self._real.cancel()
        self._loop.timers.discard(self)

    def cancelled(self) -> bool:
        return self._over

    def fire(self) -> None:
        if not self._over:
            self.cancel()
            self._run()


class Steered(uvloop.Loop):
    """A real loop, whose time is the real one and as much ahead of it as the test has made it."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: set[Timer] = set()
        self._ahead = 0.0

    def time(self) -> float:
        return super().time() + getattr(self, "_ahead", 0.0)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return Timer(self, when, lambda: callback(*args), context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def advance(self, seconds: float) -> None:
        """Moves the clock on. Timers that are due by then fire, in their order."""
        self._ahead += seconds
        for timer in sorted(self.timers, key=Timer.when):
            if timer.when() <= self.time():
                self.call_soon(timer.fire)


def steered(main: Callable[[Steered], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine on such a loop."""
    with asyncio.Runner(loop_factory=Steered) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Steered)
        return runner.run(main(loop))
