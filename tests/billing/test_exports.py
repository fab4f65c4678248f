"""Exports of usage records: their formats, and how one goes on where another ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from proxy.billing import reports
from proxy.billing.exports import CursorRefused, Export
from proxy.billing.ledger_errors import LedgerUnusable
from tests.billing.sample import NOON, sample
from tests.billing.test_reports import written

pytestmark = pytest.mark.anyio


def ids(export: Export) -> list[str]:
    return [row[1] for rows in export for row in rows]


async def test_an_export_goes_on_behind_the_last_one_with_nothing_twice_or_left_out(tmp_path: Path) -> None:
    files = await written(tmp_path, *(sample(f"{number}") for number in range(1_203)))
    first = Export(files, None, None)
    assert (first.cursor, len(ids(first))) == ("start", 1_203)
    assert ids(Export(files, None, None, first.cursor)) == []

    await written(tmp_path, sample("new"), sample("newer"))
    second = Export(files, None, None, first.cursor + "\n")
    assert ids(second) == ["new", "newer"]
    assert ids(Export(files, None, None, second.cursor)) == []


async def test_what_the_period_leaves_out_is_behind_the_cursor_all_the_same(tmp_path: Path) -> None:
    files = await written(tmp_path, sample("a"), sample("b", started_at=NOON + 1), sample("c"))
    export = Export(files, datetime.fromtimestamp((NOON + 1) / 1e6, UTC), None)
    assert ids(export) == ["b"]
    assert ids(Export(files, None, None, export.cursor)) == []


async def test_an_export_that_ends_early_goes_on_from_its_last_whole_page(tmp_path: Path) -> None:
    files = await written(tmp_path, *(sample(f"{number}") for number in range(1_203)))
    export = Export(files, None, None)
    list(islice(export, 2))
    rest = ids(Export(files, None, None, export.cursor))
    assert rest == [f"{number}" for number in range(reports.RECORDS_PAGE, 1_203)]


async def test_a_cursor_knows_where_it_stands_in_each_file(tmp_path: Path) -> None:
    files = await written(tmp_path / "one", sample("a")) + await written(tmp_path / "two", sample("b"))
    export = Export(files, None, None)
    assert ids(export) == ["a", "b"]
    await written(tmp_path / "one", sample("c"))
    await written(tmp_path / "two", sample("d"))
    assert ids(Export(files[::-1], None, None, export.cursor)) == ["d", "c"]


async def test_no_more_than_a_page_is_held_at_once(tmp_path: Path) -> None:
    """However many records there are: the first comes after one page was read, not after all of them."""
    files = await written(tmp_path, *(sample(f"{number}") for number in range(1_203)))
    assert max(len(page.rows) for page in reports.pages(files[0])) == reports.RECORDS_PAGE
    assert [page.through for page in reports.pages(files[0])] == [500, 1_000, 1_203]


async def test_a_cursor_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    files = await written(tmp_path / "one", sample("a"))
    others = await written(tmp_path / "two", sample("a"), sample("b"))
    export = Export(others, None, None)
    ids(export)
    with pytest.raises(CursorRefused, match="isn't here"):
        Export(files, None, None, export.cursor)
    with pytest.raises(CursorRefused, match="no cursor"):
        Export(files, None, None, "yesterday")
    with closing(sqlite3.connect(others[0])) as connection, connection:  # a backup from before the last record
        connection.execute("DROP TRIGGER usage_records_no_delete")
        connection.execute("DELETE FROM usage_records WHERE record_id = 'b'")
    with pytest.raises(CursorRefused, match="ends at 1: was it restored"):
        Export(others, None, None, export.cursor)
    with pytest.raises(LedgerUnusable, match="can't be read"):
        Export([tmp_path / "none.db"], None, None)


async def test_a_ledger_file_and_its_copy_are_not_exported_as_two(tmp_path: Path) -> None:
    [path] = await written(tmp_path, sample("a"))
    copy = path.with_name("1.db")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(LedgerUnusable, match="the same ledger file"):
        Export([path, copy], None, None)


async def test_columns_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    files = await written(tmp_path, sample("a"))
    [[row]] = Export(files, None, None, columns={"record_id", "images"})
    assert [value for value in row if value is not None] == [1, "a", 1]
