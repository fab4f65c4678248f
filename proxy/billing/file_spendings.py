"""What the shipped records of each ledger file cost, by the periods of budgets: of files whose node is gone, too."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from sqlalchemy import text

from proxy.store.database import Database


class FileSpending(NamedTuple):
    """Nano-dollars that one file's records cost, by whom, in a period ("2026-11-21", "2026-11", "total")."""

    file_id: str
    project: str
    key_id: str
    model: str
    period: str
    usd: int


_WHO = "file_id, project, key_id, model"
_FROM = "FROM file_spendings WHERE (CAST(:project AS text) IS NULL OR project = :project) AND file_id <> ALL(:but)"
_SUMS = text(
    " UNION ALL ".join(
        f"SELECT {_WHO}, {period} AS period, sum(cost_usd)::bigint {_FROM} AND {since} GROUP BY {_WHO}{also}"
        for period, since, also in (
            ("'total'", "true", ""),
            ("substr(period, 1, 7)", "period >= :month", ", 5"),
            ("period", "period >= :day", ", 5"),
        )
    )
)


def of_files(
    database: Database, but: Collection[str], day: str, month: str, project: str | None = None
) -> Iterator[FileSpending]:
    """Sums of all files but these: ever, by month since `month` ("2026-10"), and by day since `day` ("2026-11-20").

    Of one project, or of all. Raises StoreError.
    """
    asked = {"but": list(but), "day": day, "month": month, "project": project}
    with database.reading() as connection:
        for row in connection.execute(_SUMS, asked):
            yield FileSpending(*row)
