"""How an upstream has done of late, for operators to see. Nothing is decided by it."""

from __future__ import annotations

from typing import NamedTuple

SMOOTHING = 0.1
"""How much of the latency is the newest answer's: after ten others, a third of an answer is left."""


class Error(NamedTuple):
    """Why an attempt brought no answer of use."""

    at: float
    """Seconds of the clock that attempts are timed by."""
    what: str
    body: bytes
    """What the upstream said, without content coding; it may speak of the operator."""


class Observed:
    """Of one upstream, under one configuration."""

    __slots__ = ("last_error", "latency_s")

    def __init__(self) -> None:
        self.last_error: Error | None = None
        self.latency_s: float | None = None
        """From an attempt's begin to its response's head, smoothed; None until one has come."""

    def answered(self, seconds: float) -> None:
        """An attempt was answered, so long after it began."""
        latency = self.latency_s
        self.latency_s = seconds if latency is None else latency + (seconds - latency) * SMOOTHING

    def failed(self, at: float, what: str, body: bytes = b"") -> None:
        self.last_error = Error(at, what, body)
