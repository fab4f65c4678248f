"""What is looked at of the webhook: its address, and what it hasn't taken. Nothing is sent."""

from __future__ import annotations

import ipaddress
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import text

from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.schema import Events, Storage
from proxy.store.database import Database, StoreError, backend_of
from proxy.store.sqlite import FILE_NAME

LATE_S = 600
"""For how long an event may wait before that is worth a word."""
TRY = "`weighbridge events test` says what it answers"


def check_webhook(settings: Events, storage: Storage, unix_s: Callable[[], float]) -> Iterator[Finding]:
    """Whether it can be listened to on the way, and whether events wait for it."""
    parts = urlsplit(settings.webhook_url)
    if parts.scheme == "http" and not _is_this_machine(parts.hostname or ""):
        yield warning(
            f"{parts.netloc} is told of events in plain text: signed, but for everybody on the way to read",
            "give events.webhook_url an https address",
        )
    count, since, said = _late(storage, int(unix_s() - LATE_S) * 1_000_000)
    if count:
        hours = (unix_s() - since / 1_000_000) / 3600
        yield problem(
            f"{count} events wait for {parts.netloc}, the oldest for {hours:.1f} hours; last answer: {said or 'none'}",
            f"{TRY}; they are sent again each hour, and at the next start",
        )
    else:
        yield ok(f"{parts.netloc}; no event waits for it")


_LATE = "FROM events WHERE next_attempt_at IS NOT NULL AND created_at < :before"
_QUERY = f"SELECT count(*), min(created_at), (SELECT last_answer {_LATE} ORDER BY created_at LIMIT 1) {_LATE}"


def _late(storage: Storage, before: int) -> tuple[int, int, str]:
    """How many events made until then wait, when the oldest was made, and the last answer to it."""
    file = storage.data_dir / FILE_NAME
    row: Any = None
    # What is older, away, locked, or damaged, the check of the database tells.
    if storage.database_url:
        with suppress(StoreError), Database(backend_of(storage)).reading() as connection:
            row = connection.execute(text(_QUERY), {"before": before}).one()
    elif file.is_file():
        # By a connection that can't even roll back what a writer that died has left.
        place = f"{file.absolute().as_uri()}?mode=ro"
        with suppress(sqlite3.Error), closing(sqlite3.connect(place, uri=True, timeout=1)) as opened:
            row = opened.execute(_QUERY, {"before": before}).fetchone()
    count, since, said = row or (0, 0, "")
    return count, since or 0, said or ""


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
