"""One process over the others: starts the workers and the control process, replaces those that die, passes signals on.

It has no event loop, and no thread but that of its log, so that it can fork at any time; and nothing in it could fail
with a call. What they share they have from it: the listening sockets, and the lock of the ledger's folder, which is
free again only when all of them have ended.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from proxy.process import Process

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

TO_END = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*TO_END, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)
STEADY_S = 10.0
"""Who has lived so long is replaced at once; who dies sooner, after a pause that doubles."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
LOOK_FOR_SIGNALS_S = 0.1
"""How often, while a process starts."""
NO_PROCESS_EXIT = 71
"""EX_OSERR of sysexits(3)."""


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

    def pause(self, now: float) -> None:
        """Sets when there is to be another one."""
        steady = now - self.started_at >= STEADY_S
        self.pause_s = 0.0 if steady else min(max(self.pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self.due_at = now + self.pause_s


class Supervisor:
    """`start` returns once in each child, saying what it is to be, and in the supervisor when all is over."""

    def __init__(
        self, processes: Sequence[Process], stopping: Callable[[], object], died: Callable[[Process], object]
    ) -> None:
        """`stopping` is called when the first signal to end has come, before it is passed on; `died` when one has."""
        self._children = [Child(process) for process in processes]
        self._stopping = stopping
        self._died = died
        self._ending = False
        self._status = 0
        self._lifeline, self._held = os.pipe()
        self._mask: set[signal.Signals | int] = set()
        self._told = -1

    @property
    def ending(self) -> bool:
        """It was told to end: whoever dies from now on isn't replaced."""
        return self._ending

    @property
    def lifeline(self) -> int:
        """For a child to read from: it gives an end of file when the supervisor has died."""
        return self._lifeline

    def start(self, opened: Callable[[], object]) -> Process | None:
        """What this process is, or None in the supervisor, after all the others have ended.

        They are started one after the other: what is wrong with what they share, the first says for all, and none
        reads a file that another is about to make. `opened` is called when all have their doors open. Where one can't
        open them it has said why on its standard error, and those before it are ended. Raises SystemExit with that
        one's status, or, where one of them ended other than well later on, with that.
        """
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        gc.collect()
        gc.freeze()  # what was made so far is shared by all of them, as long as nobody touches it
        for child in self._children:
            try:
                ready = self._fork(child)
            except OSError as error:
                log.critical("no_process", process=str(child.process), why=error.strerror)
                sys.exit(self._give_up(NO_PROCESS_EXIT))
            if ready is None:
                return child.process
            if status := self._failed(child, ready):
                sys.exit(self._give_up(status))
        opened()
        reborn = self._watch()
        if reborn is None and self._status:
            sys.exit(self._status)
        return reborn

    def _fork(self, child: Child) -> int | None:
        """Starts a process. In it, returns None; here, what becomes readable when it is ready, or has ended."""
        ready, told = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(ready)
            os.close(told)
            raise
        if pid:
            os.close(told)
            child.pid, child.started_at = pid, time.monotonic()
            return ready
        os.setpgid(0, 0)  # Ctrl-C in a terminal comes to a whole group: it is for the supervisor to pass on
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # and a group behind may be stopped for writing to it
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until its doors are open, it has nothing to put in order
        os.close(ready)
        os.close(self._held)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self._told = told
        return None

    def _failed(self, child: Child, ready: int) -> int:
        """Waits until a process is ready; then 0. Else the status to end with: its own, or for a signal to end."""
        try:
            while not select.select([ready], [], [], LOOK_FOR_SIGNALS_S)[0]:
                if told := signal.sigpending() & set(TO_END):
                    return 128 + int(min(told))
            if os.read(ready, 1):
                return 0
        finally:
            os.close(ready)
        status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        child.pid = 0
        if status < 0:
            log.critical("process_died", process=str(child.process), how=_how(status), what="it can't be started")
        return max(status, 1)

    def ready(self) -> None:
        """In a child: its doors are open."""
        with suppress(BrokenPipeError):  # for who takes a dead one's place, nobody waits
            os.write(self._told, b"!")
        os.close(self._told)

    def _give_up(self, status: int) -> int:
        """Ends those that could start before one that couldn't; the status stays."""
        self._ending = True
        for child in self._children:
            child.signal(signal.SIGINT)
        for child in self._children:
            if child.pid:
                os.waitpid(child.pid, 0)
        return status

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
        """The control process isn't ready any more from here on, and closes when no worker is left."""
        if not self._ending:
            self._ending = True
            self._stopping()
        for child in self._children:
            child.signal(number if child.process.gateway else signal.SIGTERM)
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
        now = time.monotonic()
        self._died(child.process)
        if not self._ending:
            child.pause(now)
            what = "it is replaced"
            if child.process.gateway:
                what += ", and its calls in flight are written down as unsettled"
            again_in_s = child.pause_s
            log.error(
                "process_died", process=str(child.process), pid=pid, how=_how(status), again_in_s=again_in_s, what=what
            )
            self._set_alarm(now)
            return
        if status and -status not in TO_END:  # one that was about to start ends by such a signal
            what = "it had calls in flight: the next start writes them down as unsettled"
            log.error("process_died", process=str(child.process), pid=pid, how=_how(status), what=what)
            self._status = max(self._status, status, 1)
        if child.process.gateway:
            self._close_control()

    def _set_alarm(self, now: float) -> None:
        due = [child.due_at for child in self._children if not child.pid]
        signal.setitimer(signal.ITIMER_REAL, max(min(due) - now, 0.001) if due and not self._ending else 0)

    def _replace(self) -> Process | None:
        """Starts those whose time has come. In each of them, returns what it is."""
        now = time.monotonic()
        for child in self._children:
            if child.pid or child.due_at > now or self._ending:
                continue
            try:
                ready = self._fork(child)
            except OSError as error:
                child.pause(now)
                log.error("no_process", process=str(child.process), why=error.strerror, again_in_s=child.pause_s)
                continue
            if ready is None:
                return child.process
            os.close(ready)
        self._set_alarm(now)
        return None


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
