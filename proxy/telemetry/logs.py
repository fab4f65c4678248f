"""Logs: structured lines on standard error. Whatever writes there in this process comes by here, and is redacted."""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import threading
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from proxy.telemetry import lines
from proxy.telemetry.outlet import InMemory, Outlet

Style = Literal["auto", "json", "people"]

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

_REQUEST, _EVENT_WITHIN = b'"event":"call"', 96
"""How the line of a request begins: time and level come first."""

_process: dict[str, str] = {}
_least = logging.INFO
_outlet: Outlet | InMemory | None = None


def name_process(name: str) -> None:
    """Has every line of this process say which one it is, from now on."""
    _process["process"] = name


class _Writer:
    """A logger as structlog wants it: its lines are encoded already."""

    def write(self, line: bytes) -> None:
        if _outlet is not None:
            _outlet.write(line)

    def write_soon(self, line: bytes) -> None:
        """What may be the last that is heard of a process waits for nothing."""
        self.write(line)
        if _outlet is not None:
            _outlet.hurry()

    def info(self, line: bytes) -> None:
        """Lines of requests, of which there are many, may wait for each other; all others are few."""
        (self.write if _REQUEST in line[:_EVENT_WITHIN] else self.write_soon)(line)

    debug = write
    warning = error = critical = write_soon


class _Foreign(logging.Handler):
    """What others log by the standard library (uvicorn, asyncio, warnings), as lines like our own."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: dict[str, Any] = {"event": record.getMessage(), "logger": record.name}
        except Exception:  # its arguments don't fit: logging itself would print them
            event = {"event": "log_line_failed", "logger": record.name, "why": str(record.msg)}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        if _outlet is not None:
            _outlet.write(_encoded(None, record.levelname.lower(), event))


def _encoded(_logger: object, level: str, event: MutableMapping[str, Any]) -> bytes:
    """The last of structlog's processors, and the only one."""
    if _least > logging.INFO and level in ("info", "debug"):
        raise structlog.DropEvent
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(None, level, event)
    said = event.pop("event", "")
    return lines.encoded({"timestamp": _now(), "level": level, "event": said, **_process, **event})


def _now() -> str:
    """RFC 3339 in UTC."""
    seconds, ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{ns // 1000:06}Z"


@lru_cache(2)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_PROCESSORS: list[structlog.typing.Processor] = [_encoded]
"""One list for good: loggers that were used once keep it."""


def _start_again() -> None:
    if _outlet is not None:
        _outlet.start()


os.register_at_fork(after_in_child=_start_again)


@atexit.register
def flush(timeout_s: float = 1.0) -> None:
    """Waits until the lines so far are written, but no longer than that."""
    if _outlet is not None:
        _outlet.drain(timeout_s)


def configure(stream: TextIO | None = None, *, style: Style = "auto", quiet: bool = False) -> None:
    """Sets up logging for the process, onto standard error. The servers' own lines come along.

    `style`: "auto" is for people on a terminal, JSON elsewhere. `quiet`: warnings and errors only.
    """
    global _outlet, _least  # a process has one log
    if sys.stderr is None:  # it was closed: else the file that is opened next would stand in its place
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # as long as the process lives
    out = stream or sys.stderr
    on_terminal = out.isatty()
    for_people = style == "people" or (style == "auto" and on_terminal)
    finish = partial(lines.for_people, colour=on_terminal) if for_people else lines.as_json
    try:
        _outlet = Outlet(out.fileno(), finish)
    except io.UnsupportedOperation:
        _outlet = InMemory(out, finish)
    _least = logging.WARNING if quiet else logging.INFO
    structlog.configure(
        processors=_PROCESSORS,
        logger_factory=lambda *_: _Writer(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Foreign()], level=logging.WARNING, force=True)


def take_over() -> None:
    """Has what would be printed as it is come by the log: warnings, and what nobody caught, wherever it was raised."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _thread_failed
    sys.unraisablehook = _ignored


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        crashed(error)


def crashed(error: BaseException) -> None:
    """The process ends by an error that nobody expected: tells it whole, but for secrets."""
    log.critical("crashed", exc_info=error)
    flush()


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is not SystemExit:
        log.error("thread_failed", thread=failed.thread.name if failed.thread else "", exc_info=failed.exc_value)


def _ignored(failed: sys.UnraisableHookArgs) -> None:
    """As in a finalizer: nobody could have caught it."""
    log.error("error_ignored", where=failed.object, exc_info=failed.exc_value)
