"""What a ledger file's hourly sums hold beyond its records: the sums of those that retention removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from proxy.billing import ledger_schema as schema
from proxy.billing.ledger_reading import removed

_COLUMNS = (*schema.HOURLY_ORDER, *schema.HOURLY_SUMS)
_KEY = ", ".join(schema.HOURLY_ORDER)
_LESS = ", ".join(f"-({sql})" for sql in schema.HOURLY_SUMS.values())
_REMOVED = f"""
    SELECT {_KEY}, {", ".join(f"sum({name}) AS {name}" for name in schema.HOURLY_SUMS)} FROM (
        SELECT {", ".join(_COLUMNS)} FROM usage_hourly WHERE hour < :end
        UNION ALL
        SELECT {schema.HOUR_OF_NEW}, {schema.KEYS_OF_NEW}, {_LESS}
        FROM usage_records AS NEW WHERE {schema.HOUR_OF_NEW} < :end
    ) GROUP BY {_KEY} HAVING {" OR ".join(f"sum({name}) <> 0" for name in schema.HOURLY_SUMS)}"""  # noqa: S608
"""One statement, so that sums and records are of one moment. It reads every record: some seconds for a million."""


def removed_sums(connection: sqlite3.Connection, day_of: Callable[[int], str]) -> list[dict[str, Any]]:
    """Rows of usage_hourly, each with its `period`: the day of its hour, as `day_of` (Unix microseconds) names it.

    No rows for a file from which nothing was removed. The file must be up to date.
    """
    before = removed(connection).before
    if not before:
        return []
    end = (before - 1) // 3_600_000_000 * 3_600 + 3_600
    rows = (dict(zip(_COLUMNS, row, strict=True)) for row in connection.execute(_REMOVED, {"end": end}))
    return [row | {"period": day_of(row["hour"] * 1_000_000)} for row in rows]
