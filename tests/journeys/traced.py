"""Traces for journeys: a caller's own, a server whose spans are sent soon, what went up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from tests.stand import Weighbridge
from tests.telemetry.otlp_receiver import SOON, Receiver

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
"""The traceparent of a caller."""


def id_of(answer: httpx2.Response) -> str:
    return str(answer.headers["x-weighbridge-request-id"])


def went_up(stand: Weighbridge) -> dict[str, str]:
    """The headers of the request that came to the emulator last."""
    entries = httpx2.get(f"{stand.upstream_url}/emulator/requests", params={"limit": 10_000}).json()["entries"]
    return dict(entries[-1]["headers"])


def traced(folder: Path, upstream_url: str, collector: Receiver, **settings: Any) -> Weighbridge:
    made = Weighbridge(folder, upstream_url, {"tracing": {"otlp_endpoint": collector.base_url}, **settings})
    made.environment = SOON
    return made
