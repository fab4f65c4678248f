"""Traces for journeys: a caller's own, which request it was, what went up."""

from __future__ import annotations

import httpx2

from tests.stand import Weighbridge

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
"""The traceparent of a caller."""


def id_of(answer: httpx2.Response) -> str:
    return str(answer.headers["x-weighbridge-request-id"])


def went_up(stand: Weighbridge) -> dict[str, str]:
    """The headers of the request that came to the emulator last."""
    entries = httpx2.get(f"{stand.upstream_url}/emulator/requests", params={"limit": 10_000}).json()["entries"]
    return dict(entries[-1]["headers"])
