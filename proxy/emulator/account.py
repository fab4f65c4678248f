"""The emulator's own account of what it billed, and the last requests as they came: to hold a proxy's against."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import deque
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

Entry = dict[str, Any]
_SMALL_BODY = 64 * 1024


class RequestLog:
    """The last `room` entries, numbered by `seq` from 1 while the emulator runs. Safe to read from any thread."""

    def __init__(self, room: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=room)
        self._seq = 0
        self._lock = threading.Lock()

    def add(self, entry: Entry) -> Entry:
        with self._lock:
            self._seq += 1
            numbered = {"seq": self._seq} | entry
            self._entries.append(numbered)
        return numbered

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries)

    def page(self, after: int, limit: int) -> dict[str, Any]:
        """`entries` whose seq is beyond `after`, at most `limit`; `next` is the `after` of the next page, or null."""
        with self._lock:
            found = list(islice((entry for entry in self._entries if entry["seq"] > after), limit + 1))
        more = len(found) > limit
        return {"entries": found[:limit], "next": found[limit - 1]["seq"] if more else None}


class Account(RequestLog):
    """What was billed. With `file`, each entry is a line there twice: before the first byte of its response is sent,
    with `sent_whole` null, and once that is known. Of an entry's lines the last holds.
    """

    def __init__(self, room: int = 100_000, file: Path | None = None) -> None:
        super().__init__(room)
        self._file: TextIO | None = file.open("a", encoding="utf-8") if file is not None else None

    def add(self, entry: Entry) -> Entry:
        numbered = super().add(entry | {"sent_whole": None})
        self._write(numbered)
        return numbered

    def ended(self, entry: Entry, *, sent_whole: bool) -> None:
        entry["sent_whole"] = sent_whole
        self._write(entry)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, entry: Entry) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()


def received(scope: Mapping[str, Any], body: bytes, *, complete: bool, time: str) -> Entry:
    """A request as it came: the raw target, the headers in order (uvicorn lower-cases their names), the body."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return {
        "time": time,
        "method": scope["method"],
        "target": target.decode("latin-1"),
        "http_version": scope["http_version"],
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "body_base64": base64.b64encode(body).decode() if len(body) <= _SMALL_BODY else None,
        "complete": complete,
    }
