"""Reads the ledger, wherever it stands (sources.py): sums by project, key, model or day, and record by record."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import add
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from proxy.billing.records import COLUMNS, UsageRecord, from_row, to_usd
from proxy.billing.sources import RECORDS_PAGE, Part, Row, Source, opened, parts

Dimension = Literal["project", "key", "model", "operation", "upstream", "tier", "outcome", "hour", "day", "month"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

HOUR = 3_600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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


_ADDED = ReportRow.__struct_fields__[1:]
_PARTS = {
    "estimated_calls": "sum(calls) FILTER (WHERE estimated <> 0)",
    "estimated_cost_usd": "sum(cost_usd) FILTER (WHERE estimated <> 0)",
    "adjustments_cost_usd": "sum(cost_usd) FILTER (WHERE operation = 'adjustment')",
}
"""Sums over some of the rows. An adjustment's operation says what it is: billing/adjustments.py."""
_SUM_OF = {name: f"coalesce({_PARTS[name]}, 0)" if name in _PARTS else f"sum({name})" for name in _ADDED}
_SUMS = ", ".join(_SUM_OF.values())
_ALL = "usage_hourly WHERE hour >= :first AND hour < :end"
_BY_HOUR_AND_PROJECT = f"""(
    SELECT hour, project, {", ".join(f"{sql} AS {name}" for name, sql in _SUM_OF.items())}
    FROM {_ALL} GROUP BY hour, project) AS summed"""  # noqa: S608
"""The primary key's own order: what is left to be sorted is an eighth where a project has eight rows an hour."""
HOURS_OF_PROJECT = f"""(
    WITH RECURSIVE hours (at) AS (
        VALUES (CAST(:first AS BIGINT)) UNION ALL SELECT at + {HOUR} FROM hours WHERE at + {HOUR} < :end)
    SELECT usage_hourly.* FROM hours CROSS JOIN usage_hourly WHERE hour = at AND project = :project) AS of_project"""  # noqa: S608
"""The primary key begins with hour and project: one look-up an hour. CROSS JOIN keeps SQLite to that order."""


def report(
    sources: Iterable[Source],
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

    Raises LedgerUnusable where a file can't be read, StoreError where PostgreSQL can't, ValueError for an unknown
    dimension, a time without a time zone or an unknown time zone.
    """
    if unknown := [word for word in by if word not in DIMENSIONS]:
        raise ValueError(f"Can't report by {', '.join(unknown)}: choose from {', '.join(DIMENSIONS)}.")
    zone = _zone(timezone)
    first, end = (us // 1_000_000 // HOUR * HOUR for us in within(since, until))
    sums: dict[tuple[str, ...], list[int]] = {}
    for source in sources:
        for row in _hourly_sums(source, [_COLUMNS.get(dimension, dimension) for dimension in by], first, end, project):
            group = tuple(_shown(dimension, value, zone) for dimension, value in zip(by, row, strict=False))
            total = sums.setdefault(group, [0] * len(_ADDED))
            total[:] = map(add, total, row[len(by) :])
    return [ReportRow(dict(zip(by, group, strict=True)), *sums[group]) for group in sorted(sums)]


def export(
    sources: Iterable[Source], since: datetime | None = None, until: datetime | None = None
) -> Iterator[UsageRecord]:
    """The records of the calls that started from `since` to before `until`, file by file, in the order of writing.

    Records written after a file's reading began are left out. Raises LedgerUnusable, StoreError, ValueError as
    `report`.
    """
    for source in sources:
        for part in parts(source):
            for page in pages(source, *within(since, until), part=part):
                for row in page.rows:
                    yield from_row(COLUMNS, row[1:])


def within(since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The Unix microseconds from `since` to before `until`. Raises ValueError for a time without a time zone."""
    return -(2**63) if since is None else _unix_us(since), 2**63 - 1 if until is None else _unix_us(until)


def find(sources: Iterable[Source], record_id: str) -> UsageRecord | None:
    """The record of this id; None where there is none. Raises LedgerUnusable, StoreError."""
    for source in sources:
        with opened(source) as reader:
            for record in reader.records("record_id = :record_id", record_id=record_id):
                return record
    return None


def of_request(sources: Iterable[Source], request_id: str, project: str, most: int) -> list[UsageRecord]:
    """The records of one request of a project, in the order of writing: its calls, and adjustments of these.

    At most `most` of each source; one that stands in several is told once. Raises LedgerUnusable, StoreError.
    """
    found: dict[str, UsageRecord] = {}
    where = (
        "request_id = :request_id AND project = :project"
        " ORDER BY coalesce(finished_at, started_at), seq, record_id LIMIT :most"
    )
    for source in sources:
        with opened(source) as reader:
            for record in reader.records(where, request_id=request_id, project=project, most=most):
                found.setdefault(record.record_id, record)
    return list(found.values())


class Page(NamedTuple):
    """Rows of usage_records: seq, then COLUMNS. `through`: the seq up to which they were read, matching or not."""

    rows: list[Row]
    through: int


def pages(
    source: Source,
    since_us: int = -(2**63),
    until_us: int = 2**63 - 1,
    after: int = 0,
    columns: Container[str] = COLUMNS,
    *,
    part: Part | None = None,
    where: str = "",
    **values: object,
) -> Iterator[Page]:
    """The rows behind the seq `after` of calls that started within these Unix microseconds, in the order of writing.

    `part` is one of the source's `parts`; a file has but one. `where`, with its `values`, says which of the rows. Of
    other columns than `columns`, None stands in the rows. Rows written after the reading began are left out. Raises
    LedgerUnusable, StoreError.
    """
    with opened(source) as reader:
        part = part or reader.parts()[0]
        select = (
            f"SELECT {reader.listed(columns)} FROM usage_records WHERE {reader.of_part}"  # noqa: S608
            f"seq > :after AND seq <= :through AND started_at >= :since AND started_at < :until {where}"
            " ORDER BY seq LIMIT :most"
        )
        asked = {"file_id": part.file_id, "since": since_us, "until": until_us, "most": RECORDS_PAGE} | values
        at = max(after, part.first - 1)
        while at < part.last:
            through = min(at + reader.span, part.last)
            rows = reader.rows(select, **asked, after=at, through=through)
            at = rows[-1][0] if len(rows) == RECORDS_PAGE else through
            yield Page(rows, at)


def _hourly_sums(source: Source, columns: list[str], first: int, end: int, project: str | None) -> Iterator[Row]:
    """The columns and sums of each group, page by page of hours, so that a group may come several times."""
    grouped = f"GROUP BY {', '.join(columns)}" if columns else "HAVING count(*) > 0"
    table, sums = (_ALL, _SUMS) if project is None else (HOURS_OF_PROJECT, _SUMS)
    if project is None and set(columns) <= {"hour", "project"}:
        table, sums = _BY_HOUR_AND_PROJECT, ", ".join(f"sum({name})" for name in _ADDED)
    select = f"SELECT {', '.join([*columns, sums])} FROM {table} {grouped}"  # noqa: S608
    with opened(source) as reader:
        # Together, min and max would read all of it.
        ends = "SELECT (SELECT min(hour) FROM usage_hourly), (SELECT max(hour) FROM usage_hourly)"
        [(oldest, newest)] = reader.rows(ends)
        if newest is None:
            return
        stop = min(end, newest + HOUR)
        for page in range(max(first, oldest), stop, reader.hours * HOUR):
            hours = {"first": page, "end": min(page + reader.hours * HOUR, stop)}
            yield from reader.rows(select, **hours, project=project)


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


def _unix_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: add one, such as Z.")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone: use an IANA name, such as America/Los_Angeles.") from None
