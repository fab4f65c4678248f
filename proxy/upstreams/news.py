"""News of outages, as processes tell each other: entries of a Redis stream. Pure: times are handed in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from proxy.gemini import exhausted
from proxy.gemini.exhausted import Exhausted
from proxy.upstreams.health import SAID, News, Why

LONGEST_S = 25 * 3600.0
"""What of an outage is believed: until midnight, on the longest day of the year."""
STILL_OF_USE_S = 60.0
"""So long after an outage's time was over, one call is still let through first, by whoever hears of it then."""
LONGEST_ERROR = 8192
"""Bytes of Google's error that are told: its 429 have about one thousand."""

Key = tuple[str, str, str]
"""Upstream, its identity, and model."""


class Entry(NamedTuple):
    """What one process told."""

    id: str
    """The stream's: milliseconds of Redis's clock, and a number."""
    worker: str
    """Who told it."""
    number: int
    """How many it had told before."""
    identity: str
    """Which of the upstreams that may have that name."""
    news: News

    @property
    def key(self) -> Key:
        return self.news.upstream, self.identity, self.news.model

    @property
    def over(self) -> bool:
        return self.news.seconds is None


def fields(news: News, identity: str, worker: str, number: int) -> list[str | bytes | int]:
    """An entry's fields, each name before its value. `ms` is how long the upstream is out, from the entry's time on."""
    told: dict[str, str | bytes | int] = {
        "upstream": news.upstream,
        "identity": identity,
        "model": news.model.encode(errors="surrogatepass"),  # a caller may name any
        "why": news.why,
        "worker": worker,
        "number": number,
    }
    if news.seconds is None:
        told["state"] = "in"
    else:
        told["state"] = "out"
        told["ms"] = int(news.seconds * 1000)
    if news.exhausted and news.exhausted.error is not None:
        error = json.dumps(news.exhausted.error, separators=(",", ":"))
        if len(error) <= LONGEST_ERROR:
            told["error"] = error
    return [part for field in told.items() for part in field]


def read(entry_id: bytes, values: Iterable[bytes]) -> Entry | None:
    """Takes an entry apart; None where it is none that this version understands."""
    try:
        parts = [value.decode(errors="surrogatepass") for value in values]
        told = dict(zip(parts[::2], parts[1::2], strict=True))
        why, seconds = Why(told["why"]), None
        if told["state"] != "in":
            seconds = min(max(int(told["ms"]), 0), int(LONGEST_S * 1000)) / 1000
        said = Exhausted(seconds, error=_error(told)) if seconds is not None and why is Why.RATE_LIMITED else None
        news = News(told["upstream"], told["model"], why, seconds, said)
        milliseconds(found := entry_id.decode())
        entry = Entry(found, told["worker"], int(told["number"]), told["identity"], news)
    except (ValueError, LookupError, RecursionError):
        return None
    return entry if why in SAID else None


def _error(told: Mapping[str, str]) -> dict[str, Any] | None:
    text = told.get("error", "null")
    error = json.loads(text)
    return error if isinstance(error, dict) and len(text) <= LONGEST_ERROR and exhausted.shallow(text) else None


def milliseconds(entry_id: str) -> int:
    """When an entry was made, by Redis's clock."""
    return int(entry_id.partition("-")[0])


def fold(entries: Iterable[Entry], now_ms: int) -> dict[Key, News]:
    """What entries, the oldest first, come to at a time of Redis's clock: who is out, and for how long; who is back.

    Of two processes' news of one outage the later end counts.
    """
    found: dict[Key, News] = {}
    for entry in entries:
        news, known = entry.news, found.get(entry.key)
        if news.seconds is None:
            found[entry.key] = news
            continue
        left = news.seconds - max(now_ms - milliseconds(entry.id), 0) / 1000
        if left < -STILL_OF_USE_S:
            continue
        if known is None or known.seconds is None or known.seconds < left:
            found[entry.key] = news._replace(seconds=left)
    return found
