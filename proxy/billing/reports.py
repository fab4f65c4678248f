"""Reads ledger files, also while a server writes them: sums by project, key, model or day, and record by record."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from operator import add
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_file import describe
from proxy.billing.ledger_schema import refuse_newer
from proxy.billing.records import COLUMNS, UsageRecord, from_row, to_usd

Dimension = Literal["project", "key", "model", "operation", "upstream", "tier", "outcome", "hour", "day", "month"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

HOUR = 3_600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOURS_PAGE = 31 * 24 * HOUR
RECORDS_PAGE = 500
"""How much one statement reads: a reader that holds its transaction long keeps the writer's WAL from shrinking."""

_COLUMNS = {"key": "key_id", "tier": "service_tier", "day": "hour", "month": "hour"}
"""The column of usage_hourly behind each dimension that isn't named as its column."""


class ReportRow(msgspec.Struct, frozen=True):
    """Sums over the calls of one group. Money is nano-dollars.

    `group` maps each dimension asked for to its value. `output_token_count` is total less prompt and tool use, what
    output is billed by. `estimated_calls` and `estimated_cost_usd` are the part of `calls` and `cost_usd` that is
    billed by estimate; `unpriced_calls` are the calls whose model has no price, which `cost_usd` leaves out.
    `adjustments_cost_usd` is the part of `cost_usd` that was added, or taken off, by hand: adjustments are no calls.
    """

    group: dict[str, str]
    calls: int
    prompt_token_count: int
    cached_content_token_count: int
    tool_use_prompt_token_count: int
    thoughts_token_count: int
    candidates_token_count: int
    output_token_count: int
    images: int
    searches: int
    cost_usd: int
    unpriced_calls: int
    estimated_calls: int
    estimated_cost_usd: int
    adjustments_cost_usd: int


def to_json(row: ReportRow) -> dict[str, Any]:
    """A row as it is shown outside: its group, then its sums, money as decimal strings."""
    sums = {name: getattr(row, name) for name in _ADDED}
    return row.group | {name: to_usd(value) if name.endswith("cost_usd") else value for name, value in sums.items()}


def total(rows: Iterable[ReportRow]) -> ReportRow:
    """The sums of several rows, of no group."""
    sums = [0] * len(_ADDED)
    for row in rows:
        sums[:] = map(add, sums, (getattr(row, name) for name in _ADDED))
    return ReportRow({}, *sums)


def ledger_files(data_dir: Path) -> list[Path]:
    """The ledger files of a data_dir, by slot. Raises OSError: a folder that may not be read is no empty bill."""
    try:
        found = [path for path in (data_dir / "ledger").iterdir() if path.suffix == ".db"]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))


_ADDED = ReportRow.__struct_fields__[1:]
_PARTS = {
    "estimated_calls": "sum(calls) FILTER (WHERE estimated)",
    "estimated_cost_usd": "sum(cost_usd) FILTER (WHERE estimated)",
    "adjustments_cost_usd": "sum(cost_usd) FILTER (WHERE operation = 'adjustment')",
}
"""Sums over some of the rows. An adjustment's operation says what it is: billing/adjustments.py."""
_SUM_OF = {name: f"coalesce({_PARTS[name]}, 0)" if name in _PARTS else f"sum({name})" for name in _ADDED}
_SUMS = ", ".join(_SUM_OF.values())


_ALL = "usage_hourly WHERE hour >= :first AND hour < :end"
_BY_HOUR_AND_PROJECT = f"""(
    SELECT hour, project, {", ".join(f"{sql} AS {name}" for name, sql in _SUM_OF.items())}
    FROM {_ALL} GROUP BY hour, project)"""  # noqa: S608
"""The primary key's own order: what is left to be sorted is an eighth where a project has eight rows an hour."""
HOURS_OF_PROJECT = f"""(
    WITH RECURSIVE hours (at) AS (VALUES (:first) UNION ALL SELECT at + {HOUR} FROM hours WHERE at + {HOUR} < :end)
    SELECT usage_hourly.* FROM hours CROSS JOIN usage_hourly ON hour = at AND project = :project)"""  # noqa: S608
"""The primary key begins with hour and project: one look-up an hour. CROSS JOIN keeps SQLite to that order."""


def report(
    files: Iterable[Path],
    by: Sequence[Dimension],
    since: datetime | None = None,
    until: datetime | None = None,
    timezone: str = "UTC",
    project: str | None = None,
) -> list[ReportRow]:
    """Sums of the calls that started from `since` to before `until`, a row a group, sorted by group.

    It counts by hours of UTC: `since` and `until` are taken down to theirs, and an hour belongs to the day, in
    `timezone` (an IANA name), in which it begins. Without `by`, there is one row, or none where there are no calls.
    With `project`, only its rows are read, hour by hour: what others used takes none of its time.

    Raises LedgerUnusable where a file can't be read, ValueError for an unknown dimension, a time without a time zone or
    an unknown time zone.
    """
    if unknown := [word for word in by if word not in DIMENSIONS]:
        raise ValueError(f"Can't report by {', '.join(unknown)}: choose from {', '.join(DIMENSIONS)}.")
    zone = _zone(timezone)
    first, end = (us // 1_000_000 // HOUR * HOUR for us in within(since, until))
    sums: dict[tuple[str, ...], list[int]] = {}
    for path in files:
        for row in _hourly_sums(path, [_COLUMNS.get(dimension, dimension) for dimension in by], first, end, project):
            group = tuple(_shown(dimension, value, zone) for dimension, value in zip(by, row, strict=False))
            total = sums.setdefault(group, [0] * len(_ADDED))
            total[:] = map(add, total, row[len(by) :])
    return [ReportRow(dict(zip(by, group, strict=True)), *sums[group]) for group in sorted(sums)]


def export(
    files: Iterable[Path], since: datetime | None = None, until: datetime | None = None
) -> Iterator[UsageRecord]:
    """The records of the calls that started from `since` to before `until`, file by file, in the order of writing.

    Records written after a file's reading began are left out. Raises LedgerUnusable, ValueError as `report`.
    """
    for path in files:
        for page in pages(path, *within(since, until)):
            for row in page.rows:
                yield from_row(COLUMNS, row[1:])


def within(since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The Unix microseconds from `since` to before `until`. Raises ValueError for a time without a time zone."""
    return -(2**63) if since is None else _unix_us(since), 2**63 - 1 if until is None else _unix_us(until)


def find(files: Iterable[Path], record_id: str) -> UsageRecord | None:
    """The record of this id; None where there is none. Raises LedgerUnusable."""
    for path in files:
        with reading(path) as connection:
            found = connection.execute("SELECT * FROM usage_records WHERE record_id = ?", (record_id,))
            columns = [column[0] for column in found.description]
            if row := found.fetchone():
                return from_row(columns, row)
    return None


def of_request(files: Iterable[Path], request_id: str, project: str, most: int) -> list[UsageRecord]:
    """The records of one request of a project, in the order of writing: its calls, and adjustments of these.

    At most `most` of each file. Raises LedgerUnusable.
    """
    found = []
    for path in files:
        with reading(path) as connection:
            rows = connection.execute(
                "SELECT * FROM usage_records WHERE request_id = ? AND project = ? ORDER BY seq LIMIT ?",
                (request_id, project, most),
            )
            columns = [column[0] for column in rows.description]
            found += [from_row(columns, row) for row in rows.fetchall()]
    return found


class Page(NamedTuple):
    """Rows of usage_records: seq, then COLUMNS. `through`: the seq up to which they were read, matching or not."""

    rows: list[tuple[Any, ...]]
    through: int


def pages(
    path: Path,
    since_us: int = -(2**63),
    until_us: int = 2**63 - 1,
    after: int = 0,
    columns: Container[str] = COLUMNS,
) -> Iterator[Page]:
    """The rows behind the seq `after` of calls that started within these Unix microseconds, in the order of writing.

    Of other columns than `columns`, None stands in the rows. Rows written after the reading began are left out. Raises
    LedgerUnusable.
    """
    with reading(path) as connection:
        first, last = connection.execute(
            "SELECT (SELECT min(seq) FROM usage_records WHERE seq > ?), (SELECT max(seq) FROM usage_records)",
            (after,),
        ).fetchone()
        if first is None:
            return
        select = (
            f"SELECT {_selected(connection, columns)} FROM usage_records"  # noqa: S608
            " WHERE seq >= ? AND seq <= ? AND started_at >= ? AND started_at < ? ORDER BY seq"
        )
        for seq in range(first, last + 1, RECORDS_PAGE):
            through = min(seq + RECORDS_PAGE - 1, last)
            yield Page(connection.execute(select, (seq, through, since_us, until_us)).fetchall(), through)


def _selected(connection: sqlite3.Connection, columns: Container[str]) -> str:
    """seq and COLUMNS; in place of those that a file of an older version lacks, their defaults."""
    present = {row[1] for row in connection.execute("PRAGMA table_info(usage_records)")}
    defaults = {field.name: field.default for field in msgspec.structs.fields(UsageRecord) if not field.required}
    lacking = {name: default for name, default in defaults.items() if name not in present}
    literals = {name: "NULL" if value is None else repr(value) for name, value in lacking.items()}
    return ", ".join(("seq", *(literals.get(name, name) if name in columns else "NULL" for name in COLUMNS)))


def _hourly_sums(
    path: Path, columns: list[str], first: int, end: int, project: str | None
) -> Iterator[tuple[Any, ...]]:
    """The columns and sums of each group, page by page of hours, so that a group may come several times."""
    grouped = f"GROUP BY {', '.join(columns)}" if columns else "HAVING count(*) > 0"
    source, sums = (_ALL, _SUMS) if project is None else (HOURS_OF_PROJECT, _SUMS)
    if project is None and set(columns) <= {"hour", "project"}:
        source, sums = _BY_HOUR_AND_PROJECT, ", ".join(f"sum({name})" for name in _ADDED)
    select = f"SELECT {', '.join([*columns, sums])} FROM {source} {grouped}"  # noqa: S608
    with reading(path) as connection:
        ends = (
            "SELECT (SELECT min(hour) FROM usage_hourly), (SELECT max(hour) FROM usage_hourly)"  # together, all is read
        )
        oldest, newest = connection.execute(ends).fetchone()
        if newest is None:
            return
        stop = min(end, newest + HOUR)
        for page in range(max(first, oldest), stop, HOURS_PAGE):
            hours = {"first": page, "end": min(page + HOURS_PAGE, stop), "project": project}
            yield from connection.execute(select, hours).fetchall()


def _shown(dimension: Dimension, value: Any, zone: ZoneInfo) -> str:
    match dimension:
        case "hour":
            return datetime.fromtimestamp(value, zone).isoformat(timespec="minutes")
        case "day":
            return datetime.fromtimestamp(value, zone).date().isoformat()
        case "month":
            return f"{datetime.fromtimestamp(value, zone):%Y-%m}"
        case _:
            return str(value)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can't write and never checkpoints: two that do lose rows before SQLite 3.51.3.

    Raises LedgerUnusable, also for a file that is newer than this program.
    """
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            refuse_newer(connection, path)
            yield connection
    except sqlite3.Error as error:
        raise LedgerUnusable(
            f"{path} can't be read: {describe(error)}. Is it a ledger file, and may you read it?"
        ) from error


def _unix_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: add one, such as Z.")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone: use an IANA name, such as America/Los_Angeles.") from None
