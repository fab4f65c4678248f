"""Logs: structured lines on standard error, with every shape of secret taken out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_SECRET = re.compile(
    r"AIza[0-9A-Za-z_-]{20,}"  # a Google API key
    r"|AQ\.[0-9A-Za-z_.-]{16,}"  # a Google auth key
    r"|wb_[0-9A-Za-z]{8,}"  # a virtual key
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


def configure(stream: TextIO | None = None, *, quiet: bool = False) -> None:
    """Sets up logging for the process: for people on a terminal, JSON elsewhere. The servers' own lines come along.

    `quiet`: only what somebody must act on.
    """
    stream = stream or sys.stderr
    for_people = stream.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if for_people
        else structlog.processors.JSONRenderer()
    )
    before: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    structlog.configure(
        processors=[*before, renderer],
        logger_factory=structlog.PrintLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR if quiet else logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=before))
    logging.basicConfig(handlers=[handler], level=logging.ERROR if quiet else logging.WARNING, force=True)
