"""A clock that a test sets, a Health on it, and upstreams that exist in name only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.gemini.exhausted import Exhausted
from proxy.upstreams.health import Health
from proxy.upstreams.pool import Pool
from proxy.upstreams.upstream import Upstream

MIDNIGHT_S = 40_000.0
MODEL, OTHER = "gemini-3.8-flash", "gemini-3.1-pro"


@dataclass
class Steady:
    """`now` is seconds; jitter is what the test wants it to be."""

    now: float = 1000.0
    jitter: float = 0.5
    told: list[tuple[str, bool]] = field(default_factory=list)
    """What was told of availability."""

    def health(self) -> Health:
        return Health(
            lambda: self.now,
            lambda: self.jitter,
            lambda: MIDNIGHT_S,
            lambda name, there: self.told.append((name, there)),
        )


def upstream(name: str, **options: Any) -> Upstream:
    nowhere: Any = None
    return Upstream(name, f"https://{name}.example", "x-goog-api-key", f"key-of-{name}", nowhere, **options)


def pool(steady: Steady, *upstreams: Upstream) -> Pool:
    return Pool(upstreams, steady.health())


def quota(seconds: float, name: str = "", **more: Any) -> Exhausted:
    """What a 429 said."""
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
    return Exhausted(seconds, error={"code": 429, "message": f"No quota at {name}.", "details": [retry]}, **more)
