"""What is looked at of the webhook: its address, and what it hasn't taken. Nothing is sent."""

from __future__ import annotations

import ipaddress
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.schema import Events
from proxy.store.sqlite import FILE_NAME

LATE_S = 600
"""For how long an event may wait before that is worth a word."""
TRY = "`weighbridge events test` says what it answers"


def check_webhook(settings: Events, data_dir: Path, unix_s: Callable[[], float]) -> Iterator[Finding]:
    """Whether it can be listened to on the way, and whether events wait for it."""
    parts = urlsplit(settings.webhook_url)
    if parts.scheme == "http" and not _is_this_machine(parts.hostname or ""):
        yield warning(
            f"{parts.netloc} is told of events in plain text: signed, but for everybody on the way to read",
            "give events.webhook_url an https address",
        )
    count, since, said = _late(data_dir, int(unix_s() - LATE_S) * 1_000_000)
    if count:
        hours = (unix_s() - since / 1_000_000) / 3600
        yield problem(
            f"{count} events wait for {parts.netloc}, the oldest for {hours:.1f} hours; last answer: {said or 'none'}",
            f"{TRY}; they are sent again each hour, and at the next start",
        )
    else:
        yield ok(f"{parts.netloc}; no event waits for it")


def _late(data_dir: Path, before: int) -> tuple[int, int, str]:
    """How many events made until then wait, when the oldest was made, and the last answer to it."""
    file = data_dir / FILE_NAME
    if not file.is_file():
        return 0, 0, ""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
        try:
            row = connection.execute(
                "SELECT count(*), min(created_at), last_answer FROM events"
                " WHERE next_attempt_at IS NOT NULL AND created_at < ?",
                (before,),
            ).fetchone()
        except sqlite3.Error:  # older, locked, or damaged: the check of the database tells
            return 0, 0, ""
    return row[0], row[1] or 0, row[2] or ""


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
