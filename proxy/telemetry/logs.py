"""Logs: structured lines on standard error, with every shape of secret taken out. No line can hold up who writes it."""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import MutableMapping
from queue import SimpleQueue
from typing import Any, TextIO, cast

import structlog

MOST_LINES = 10_000
"""Lines that wait for whoever reads them; further ones are dropped, and counted."""
WRITTEN_AT_ONCE = 500

_SECRET = re.compile(
    r"AIza[0-9A-Za-z_-]{20,}"  # a Google API key
    r"|AQ\.[0-9A-Za-z_.-]{16,}"  # a Google auth key
    r"|wba?_[0-9A-Za-z]{8,}"  # a virtual key, an admin token
    r"|whsec_[0-9A-Za-z+/=_-]{8,}"  # a secret that webhooks are signed with
    r"|ya29\.[0-9A-Za-z_.-]{8,}"  # a Google OAuth token
    r"|(?<=[?&]key=)[^&\s\"']+"
    r"|(?i:(?<=bearer ))[^\s\"',]{8,}"
)


def redact(text: str) -> str:
    """The text without anything that has the shape of a secret."""
    return _SECRET.sub("[redacted]", text)


def _redact_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(value)
        elif not isinstance(value, int | float | bool | None):
            event[name] = redact(str(value))
    return event


_process: dict[str, str] = {}


def name_process(name: str) -> None:
    """Has every line of this process say which one it is, from now on."""
    _process["process"] = name


def _add_process(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in _process.items():
        event.setdefault(name, value)
    return event


class Outlet:
    """A file as loggers know it, written by a thread: a full disk and a broken or stalled pipe cost lines, no more.

    `write` neither waits nor raises. How many lines were lost is said as soon as something can be written again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self.start()

    def start(self) -> None:
        """Begins with nothing that waits; a process that was forked has neither the thread nor what waited for it."""
        self._waiting: SimpleQueue[str | threading.Event] = SimpleQueue()
        # No signal is for this thread: one that another waits for, or blocks, would come here and be lost, or kill.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        threading.Thread(target=self._write_on, name="logs", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def write(self, line: str) -> None:
        if self._waiting.qsize() < MOST_LINES:
            self._waiting.put(line)
        else:
            self._lost += 1

    def flush(self) -> None:
        """Loggers ask for it after each line, and needn't wait."""

    def drain(self, timeout_s: float) -> None:
        """Waits until all that was written so far is out, or lost."""
        reached = threading.Event()
        self._waiting.put(reached)
        reached.wait(timeout_s)

    def _write_on(self) -> None:
        told = 0
        while True:
            taken = [self._waiting.get()]
            while len(taken) < WRITTEN_AT_ONCE and not self._waiting.empty():
                taken.append(self._waiting.get())
            lines = [line for line in taken if isinstance(line, str)]
            lost = self._lost
            notice = json.dumps({"event": "log_lines_lost", "lines": lost - told, "level": "error"}) + "\n"
            if self._put("".join([notice, *lines] if lost > told else lines)):
                told = lost
            else:
                self._lost += len(lines)
            for reached in taken:
                if isinstance(reached, threading.Event):
                    reached.set()

    def _put(self, text: str) -> bool:
        # Not through sys.stderr: its buffer would keep what could not be written, and its lock the process at its end.
        rest = memoryview(text.encode(errors="backslashreplace"))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            return False
        return True


_outlets: list[Outlet] = []
"""The one in use, once there is one."""


def _start_again() -> None:
    for outlet in _outlets:
        outlet.start()


os.register_at_fork(after_in_child=_start_again)


@atexit.register
def flush(timeout_s: float = 1.0) -> None:
    """Waits until the lines so far are written, but no longer than that."""
    for outlet in _outlets:
        outlet.drain(timeout_s)


def _never_blocking(stream: TextIO) -> TextIO:
    try:
        _outlets[:] = [Outlet(stream.fileno())]
    except io.UnsupportedOperation:
        return stream  # it is in memory
    return cast("TextIO", _outlets[0])


def configure(stream: TextIO | None = None, *, quiet: bool = False) -> None:
    """Sets up logging for the process: for people on a terminal, JSON elsewhere. The servers' own lines come along.

    `quiet`: warnings and errors only.
    """
    stream = stream or sys.stderr
    for_people = stream.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if for_people
        else structlog.processors.JSONRenderer()
    )
    out = _never_blocking(stream)
    before: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        _add_process,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    structlog.configure(
        processors=[*before, renderer],
        logger_factory=structlog.WriteLoggerFactory(out),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=before))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
