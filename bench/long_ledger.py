"""Makes a ledger file of a month with as many records as one likes: plausible calls, priced and summed as real ones."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.billing import charge
from proxy.billing import ledger_schema as schema
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.periods import DAY_US
from proxy.billing.prices import PriceBook
from proxy.billing.records import COLUMNS, UsageRecord, id_maker, to_row
from proxy.gemini.reading import Reading

BEGINS = int(datetime(2026, 10, 1, 7, tzinfo=UTC).timestamp()) * 1_000_000
"""A month of 30 days in Los Angeles."""
DAYS = 30
PROJECTS = 50
KINDS = (
    *(("gemini-3.1-flash-image", 1120, outcome) for outcome in ("ok", "client_gone")),
    *(("gemini-3-pro-image", 1120, "ok"), ("gemini-3.8-flash", 0, "ok")),
)
"""Model, tokens of its picture, and outcome; with two keys, a project has eight rows of sums an hour."""
_AT_ONCE = 50_000
_EACH = 64


def make(data_dir: Path, records: int) -> Path:
    """The ledger file of a new data_dir. Its server has ended; `ledger verify` finds nothing wrong with it."""
    with closing(LedgerFile.open(data_dir, busy_timeout_s=1, ballast_bytes=0, random=os.urandom)) as file:
        path = file.path
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute("BEGIN")
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.executemany(schema.INSERT_RECORD, rows(records))
        for after in range(0, records, _AT_ONCE):
            sums = connection.execute(schema.HOURS_OF_RECORDS, (after, after + _AT_ONCE)).fetchall()
            connection.executemany(schema.ADD_TO_HOUR, sums)
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    return path


def rows(records: int, seed: int = 0, begins: int = BEGINS, lasts: int = DAYS * DAY_US) -> Iterator[list[Any]]:
    """Rows of usage_records: calls at even distances over that time, each of any project and kind."""
    chance = random.Random(seed)
    at = begins
    new_id = id_maker(lambda: at // 1000, chance.randbytes)
    samples = [to_row(_sample(*kind, chance)) for kind in KINDS for _ in range(_EACH)]
    places = [COLUMNS.index(name) for name in ("record_id", "request_id", "started_at", "finished_at")]
    record_id, request_id, started_at, finished_at = places
    tenant = slice(COLUMNS.index("project"), COLUMNS.index("key_name") + 1)
    tenants = [
        (f"project-{of:02}", f"key_{of:012}{key}", ("web", "batch")[key]) for of in range(PROJECTS) for key in (0, 1)
    ]
    period = COLUMNS.index("period")
    days = [datetime.fromtimestamp((BEGINS + day * DAY_US) / 1e6, UTC).date().isoformat() for day in range(DAYS)]
    for number in range(records):
        at = begins + number * lasts // records
        row = samples[int(chance.random() * len(samples))].copy()
        row[record_id], row[request_id] = new_id(), new_id()
        row[started_at], row[finished_at] = at, at + 4_000_000 + row[-1] * 1000
        row[tenant] = tenants[int(chance.random() * len(tenants))]
        row[period] = days[number * DAYS // records]
        yield row


def _sample(model: str, picture: int, outcome: str, chance: random.Random) -> UsageRecord:
    """A call as it would have been metered, of nobody and no time yet."""
    prompt, text, thoughts = chance.randrange(20, 3_000), chance.randrange(20, 900), chance.randrange(40, 800)
    details = [{"modality": "IMAGE", "tokenCount": picture}] if picture else []
    usage = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": picture + text,
        "totalTokenCount": prompt + picture + text + thoughts,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        "candidatesTokensDetails": [*details, {"modality": "TEXT", "tokenCount": text}],
        "thoughtsTokenCount": thoughts,
        "serviceTier": "standard",
    }
    record = UsageRecord(
        record_id="",
        request_id="",
        started_at=BEGINS,
        project="",
        key_id="",
        key_name="",
        upstream="google",
        operation="generateContent",
        model=model,
        model_asked=model,
        outcome=outcome,
        http_status=200,
        period="",
        request_bytes=4 * prompt + 400,
        response_bytes=1_500_000 if picture else 4 * text + 900,
        first_byte_ms=chance.randrange(900, 9_000),
        duration_ms=chance.randrange(9_000, 20_000),
    )
    reading = Reading(
        usage=json.dumps(usage, indent=2).encode(),
        model_version=model,
        response_id=f"{chance.getrandbits(96):024x}",
        finish_reason="STOP",
        images=int(bool(picture)),
        complete=True,
    )
    charge.charge_reading(record, reading, "1K", _BOOK)
    return record


_BOOK = PriceBook.load()
