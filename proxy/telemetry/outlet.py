"""Where log lines go: a file, written by a thread, so that no line can hold up who writes it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from select import PIPE_BUF
from typing import TextIO

MOST_LINES = 10_000
"""Lines that wait for whoever reads them; further ones are dropped, and counted."""
WRITTEN_AT_ONCE = 500
PAUSE_S = 0.05
"""Between one writing and the next: waking a thread for each line would cost a busy server more than the line."""
_LOST = b'{"event":"log_lines_lost","lines":%d,"level":"error"}'

Finish = Callable[[bytes], bytes]
"""Makes of an event in JSON the line that is written."""


class Outlet:
    """A file that is written by a thread: a full disk and a broken or stalled pipe cost lines, no more.

    `write` neither waits nor raises. How many lines were lost is said as soon as something can be written again.
    """

    def __init__(self, descriptor: int, finish: Finish) -> None:
        self._descriptor = descriptor
        self._finish = finish
        self._lost = 0
        self._torn = False
        """Whether what was written last is a part of a line."""
        self.start()

    def start(self) -> None:
        """Begins with nothing that waits; a process that was forked has neither the thread nor what waited for it.

        The thread comes with the first line: who forks, or has nothing to say, has none.
        """
        self._waiting: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._hurry = threading.Event()
        self._starting = threading.RLock()  # a finalizer in the midst of it may have something to say, too
        self._thread: threading.Thread | None = None

    def _start_thread(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_on, name="logs", daemon=True)
                # No signal is for it: one that another waits for, or blocks, would come here and be lost, or kill.
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                try:
                    self._thread.start()
                except RuntimeError:  # the machine has room for no more: the next line tries again
                    self._thread = None
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def write(self, event: bytes) -> None:
        if self._thread is None:
            self._start_thread()
        if self._waiting.qsize() < MOST_LINES:
            self._waiting.put(event)
        else:
            self._lost += 1

    def hurry(self) -> None:
        """Has what waits written without a pause."""
        self._hurry.set()

    def drain(self, timeout_s: float) -> None:
        """Waits until all that was written so far is out, or lost."""
        if self._thread is None:
            return
        reached = threading.Event()
        self._waiting.put(reached)
        self.hurry()
        reached.wait(timeout_s)

    def _write_on(self) -> None:
        told = 0
        while True:
            taken = [self._waiting.get()]
            while len(taken) < WRITTEN_AT_ONCE and not self._waiting.empty():
                taken.append(self._waiting.get())
            lines = [self._finish(line) for line in taken if isinstance(line, bytes)]
            lost = self._lost
            notice = [self._finish(_LOST % (lost - told))] if lost > told else []
            written = self._put(notice + lines)
            if notice and written:
                told = lost
            self._lost += len(lines) - max(written - len(notice), 0)
            reached = [each for each in taken if isinstance(each, threading.Event)]
            for event in reached:
                event.set()
            if not reached and self._waiting.empty():
                self._hurry.wait(PAUSE_S)
            self._hurry.clear()

    def _put(self, lines: Sequence[bytes]) -> int:
        """Writes lines; how many of them are out."""
        written = 0
        try:
            for count, text in _together(lines):
                self._put_whole(text)
                written += count
        except OSError:
            pass
        return written

    def _put_whole(self, text: bytes) -> None:
        # Not through sys.stderr: its buffer would keep what could not be written, and its lock the process at its end.
        rest = memoryview(b"\n" + text if self._torn else text)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
            self._torn = bool(rest)


def _together(lines: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """So many lines and their text, each no longer than what a pipe takes in one piece: workers share one, and in what
    is longer another's lines may stand when its reader is slow (pipe(7))."""
    taken: list[bytes] = []
    size = 0
    for line in lines:
        if taken and size + len(line) >= PIPE_BUF:  # one byte is for the end of a torn line
            yield len(taken), b"".join(taken)
            taken, size = [], 0
        taken.append(line)
        size += len(line)
    if taken:
        yield len(taken), b"".join(taken)


class InMemory:
    """The same into a stream that has no file: written at once."""

    def __init__(self, stream: TextIO, finish: Finish) -> None:
        self._stream = stream
        self._finish = finish

    def start(self) -> None:
        """Nothing waits."""

    def write(self, event: bytes) -> None:
        self._stream.write(self._finish(event).decode())

    def hurry(self) -> None:
        """Nothing waits."""

    def drain(self, timeout_s: float) -> None:
        """Nothing waits."""
