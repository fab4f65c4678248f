"""One process over the others: starts the workers and the control process, replaces those that die, passes signals on.

It has no event loop, and no thread but that of its log, so that it can fork at any time; and nothing in it could fail
with a call. What they share they have from it: the listening sockets, and the lock of the ledger's folder, which is
free again only when all of them have ended.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from proxy.app import Process

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
STEADY_S = 10.0
"""Who has lived so long is replaced at once; who dies sooner, after a pause that doubles."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0


class Child:
    """One of the processes, and those that took its place: `pid` is that of the one that runs now, 0 for none."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.pid = 0
        self.started_at = 0.0
        self.due_at = 0.0
        self.pause_s = 0.0

    def signal(self, number: int) -> None:
        if self.pid:
            os.kill(self.pid, number)


class Supervisor:
    """`start` returns once in each child, saying what it is to be, and in the supervisor when all is over."""

    def __init__(self, processes: Sequence[Process], stopping: Callable[[], object]) -> None:
        """`stopping` is called when the first signal to end has come, before it is passed on."""
        self._children = [Child(process) for process in processes]
        self._stopping = stopping
        self._ending = False
        self._lifeline, self._held = os.pipe()
        self._mask: set[signal.Signals | int] = set()
        self._told = -1

    @property
    def lifeline(self) -> int:
        """For a child to read from: it gives an end of file when the supervisor has died."""
        return self._lifeline

    def start(self, opened: Callable[[], object]) -> Process | None:
        """What this process is, or None in the supervisor, after all the others have ended.

        `opened` is called when all have their doors open. Where one can't open them it has said why on its standard
        error, and the others are ended: raises SystemExit with its status.
        """
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        gc.collect()
        gc.freeze()  # what was made so far is shared by all of them, as long as nobody touches it
        waiting = []
        for child in self._children:
            ready = self._fork(child)
            if ready is None:
                return child.process
            waiting.append(ready)
        ready_all = [_is_told(ready) for ready in waiting]
        if not all(ready_all):
            sys.exit(self._give_up())
        opened()
        return self._watch()

    def _fork(self, child: Child) -> int | None:
        """Starts a process. In it, returns None; here, what becomes readable when it is ready, or has ended."""
        ready, told = os.pipe()
        pid = os.fork()
        if pid:
            os.close(told)
            child.pid, child.started_at = pid, time.monotonic()
            return ready
        os.setpgid(0, 0)  # Ctrl-C in a terminal comes to a whole group: it is for the supervisor to pass on
        os.close(ready)
        os.close(self._held)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self._told = told
        return None

    def ready(self) -> None:
        """In a child: its doors are open."""
        with suppress(BrokenPipeError):  # for who takes a dead one's place, nobody waits
            os.write(self._told, b"!")
        os.close(self._told)

    def _give_up(self) -> int:
        """Ends those that could start beside one that couldn't. Returns that one's exit status."""
        self._ending = True
        status = 0
        for child in self._children:
            child.signal(signal.SIGINT)
        for child in self._children:
            status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) or status
        return status if status > 0 else 1

    def _watch(self) -> Process | None:
        while any(child.pid for child in self._children) or not self._ending:
            number = signal.sigwait(SIGNALS)
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGALRM:
                if (reborn := self._replace()) is not None:
                    return reborn
            elif number == signal.SIGHUP:
                self._pass_on(number)
            else:
                self._end(number)
        return None

    def _pass_on(self, number: int) -> None:
        for child in self._children:
            child.signal(number)

    def _end(self, number: int) -> None:
        """SIGTERM is for all; SIGINT, which closes at once, comes to the control process when no worker is left."""
        if not self._ending:
            self._ending = True
            self._stopping()
        for child in self._children:
            if child.process.gateway or number == signal.SIGTERM:
                child.signal(number)
        self._close_control()

    def _close_control(self) -> None:
        if not any(child.pid for child in self._children if child.process.gateway):
            self._pass_on(signal.SIGINT)

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children if child.pid}
        while by_pid:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if (child := by_pid.pop(pid, None)) is not None:
                child.pid = 0
                self._ended(child, pid, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, pid: int, status: int) -> None:
        if self._ending:
            if child.process.gateway:
                self._close_control()
            return
        now = time.monotonic()
        steady = now - child.started_at >= STEADY_S
        child.pause_s = 0.0 if steady else min(max(child.pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        child.due_at = now + child.pause_s
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        what = "it is replaced, and its calls in flight are written down as unsettled"
        log.error("process_died", process=str(child.process), pid=pid, how=how, again_in_s=child.pause_s, what=what)
        self._set_alarm(now)

    def _set_alarm(self, now: float) -> None:
        due = [child.due_at for child in self._children if not child.pid]
        signal.setitimer(signal.ITIMER_REAL, max(min(due) - now, 0.001) if due and not self._ending else 0)

    def _replace(self) -> Process | None:
        """Starts those whose time has come. In each of them, returns what it is."""
        now = time.monotonic()
        for child in self._children:
            if not child.pid and child.due_at <= now and not self._ending:
                ready = self._fork(child)
                if ready is None:
                    return child.process
                os.close(ready)
        self._set_alarm(now)
        return None


def _is_told(ready: int) -> bool:
    """Waits until a child is ready; False where it has ended before."""
    try:
        return os.read(ready, 1) == b"!"
    finally:
        os.close(ready)
