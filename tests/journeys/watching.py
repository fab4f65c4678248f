"""What a journey waits for, and what it sees of a process from outside."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

T = TypeVar("T")

DEADLINE_S = 30
TEXT = "/v1beta/models/gemini-3.8-flash:"
PICTURE = "/v1beta/models/gemini-3.1-flash-image:generateContent"


def until(happened: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """What `happened` gives, once that is true."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if seen := happened():
            return seen
        time.sleep(0.01)
    raise AssertionError(f"waited {deadline_s:g} s in vain: {what}")


def connect(url: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname or "", where.port or 0), DEADLINE_S)


def refuses(url: str) -> bool:
    """Whether nobody listens there."""
    try:
        connect(url).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it was about to be taken when the listener went
    return False


def body(prompt: str) -> dict[str, Any]:
    return {"contents": [{"parts": [{"text": prompt}]}]}


def open_leases(data_dir: Path) -> int:
    """How many calls the ledger file holds for under way."""
    with closing(sqlite3.connect(f"file:{data_dir}/ledger/0.db?mode=ro", uri=True)) as ledger:
        (count,) = ledger.execute("SELECT count(*) FROM leases").fetchone()
        return int(count)


def in_flight(admin_url: str) -> int:
    """How many calls the process says that it serves now."""
    metrics = httpx2.get(f"{admin_url}/metrics").text
    return int(float(metrics.partition("\nweighbridge_in_flight_requests ")[2].partition("\n")[0]))


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    """Another process holds the ledger file: what is to be written waits."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")
