"""`python -m bench.ledger`: ten million records: processor time of what reads them, pages that a call writes."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from bench import long_ledger
from bench.__main__ import commit, machine
from bench.pages import between_marks, save_as
from proxy.billing import export_formats, ledger_reading, reports
from proxy.billing.exports import Export
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.ledger_writer import REMOVED_AT_ONCE
from proxy.billing.periods import DAY_US
from proxy.billing.records import COLUMNS
from proxy.billing.reports import HOUR
from proxy.billing.spent import spent
from proxy.billing.verify import Verifier

FRAME = 4096 + 24
"""A page in the write-ahead log, with its header."""
CALLS = 300
VERIFIED = 200_000
"""It reads every record several times over: a small file says how fast."""
HALF_AN_HOUR = 1_800_000_000
AT = COLUMNS.index("started_at")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000, help="1 KB of disk and 16 us each")
    parser.add_argument("--exported", type=int, default=1_000_000, help="how many of them are exported, in each format")
    parser.add_argument("--folder", type=Path, help="where the ledger is, or is made and left; else a temporary folder")
    parser.add_argument("--save", action="store_true", help="write the result into bench/results and docs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name:
        content = bench(options.folder or Path(name) / "full", Path(name) / "empty", Path(name) / "small", options)
    print(table(content))
    if options.save:
        save_as("ledger", content, filled)


def bench(folder: Path, empty: Path, small: Path, options: argparse.Namespace) -> dict[str, Any]:
    if not ledger_files(folder):
        print(f"making {options.records:,} records …", flush=True)
        long_ledger.make(folder, options.records)
    [path] = ledger_files(folder)
    with ledger_reading.reading(path) as connection:
        ends = connection.execute("SELECT (SELECT max(seq) FROM usage_records), (SELECT count(*) FROM usage_hourly)")
        records, hourly_rows = ends.fetchone()
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "commit": commit(),
        "machine": {name: said for name, said in machine().items() if name != "nginx"},
        "records": records,
        "hourly_rows": hourly_rows,
        "bytes": path.stat().st_size,
        "report_ms": report_ms(path),
        "spent_ms": spent_ms(path),
        "exported_per_s": exported_per_s(path, options.exported),
        "pages_per_call": pages_per_call(folder, empty),
        "verified_per_s": verified_per_s(long_ledger.make(small, VERIFIED)),
        "retention": retention(folder),
    }


def report_ms(path: Path) -> dict[str, list[float]]:
    """Processor time of a month's report, run by run."""
    period = (datetime.fromtimestamp((long_ledger.BEGINS + days * DAY_US) / 1e6, UTC) for days in (0, long_ledger.DAYS))
    since, until = period
    zone = "America/Los_Angeles"
    return {
        "project": runs(lambda: reports.report([path], ["project"], since, until, zone)),
        "project,day": runs(lambda: reports.report([path], ["project", "day"], since, until, zone)),
        "project,model": runs(lambda: reports.report([path], ["project", "model"], since, until, zone)),
        "day of one project": runs(lambda: reports.report([path], ["day"], since, until, zone, "project-07")),
    }


def spent_ms(path: Path) -> dict[str, list[float]]:
    """Processor time of what budgets begin with."""
    last_day = long_ledger.BEGINS + (long_ledger.DAYS - 1) * DAY_US
    return {
        "ever": runs(lambda: spent([path])),
        "a day, from a whole hour": runs(lambda: spent([path], last_day)),
        "a month, from half past": runs(lambda: spent([path], long_ledger.BEGINS + HALF_AN_HOUR)),
        "ever, one project": runs(lambda: spent([path], None, "project-07")),
    }


def exported_per_s(path: Path, records: int) -> dict[str, int]:
    """Records a second of processor time, the best of three runs: noise only ever adds."""
    return {name: max(one_export(path, name, records) for _ in range(3)) for name in export_formats.FORMATS}


def one_export(path: Path, name: str, records: int) -> int:
    with Path(os.devnull).open("wb") as nowhere:

        def export() -> int:
            pages: Iterator[list[tuple[Any, ...]]] = islice(
                iter(Export([path], None, None, columns=export_formats.READ[name])), records // 500
            )
            return sum(nowhere.write(export_formats.FORMATS[name](page)) and len(page) for page in pages)

        began = time.process_time()
        return round(export() / (time.process_time() - began))


def verified_per_s(path: Path) -> int:
    """Records a second of processor time."""
    began = time.process_time()
    assert list(Verifier(path)) == []
    return round(VERIFIED / (time.process_time() - began))


def pages_per_call(folder: Path, empty: Path) -> dict[str, float]:
    """Pages that a lease and its record write, each in a commit of its own: by file."""
    return {"empty": pages_written(empty), "full": pages_written(folder)}


def pages_written(folder: Path) -> float:
    """Of calls in the hour after the month, each another one however often it is measured."""
    begins = long_ledger.BEGINS + long_ledger.DAYS * DAY_US
    calls = list(long_ledger.rows(2 * CALLS, time.time_ns(), begins, HOUR * 1_000_000))
    with closing(LedgerFile.open(folder, busy_timeout_s=1, ballast_bytes=0, random=os.urandom)) as file:
        commit_each(file, calls[:CALLS])  # an empty file is none any more
        file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        commit_each(file, calls[CALLS:])
        return round(file.path.with_name("0.db-wal").stat().st_size / FRAME / CALLS, 2)


def commit_each(file: LedgerFile, calls: Sequence[list[Any]]) -> None:
    for row in calls:
        file.commit([(row[0], row[AT], b"{}" * 300)], [], [])
        file.commit([], [row], [])


def retention(folder: Path) -> dict[str, float]:
    """One step: how many pages it writes, and its processor time in ms, which a call may wait for."""
    pages, spent_on = [], []
    with closing(LedgerFile.open(folder, busy_timeout_s=1, ballast_bytes=0, random=os.urandom)) as file:
        for _ in range(50):
            file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            began = time.process_time()
            file.remove(long_ledger.BEGINS + DAY_US, REMOVED_AT_ONCE)
            spent_on.append((time.process_time() - began) * 1000)
            pages.append(file.path.with_name("0.db-wal").stat().st_size // FRAME)
    return {"pages": statistics.median(pages), "ms": round(statistics.median(spent_on), 2)}


def runs(work: Callable[[], object], count: int = 7) -> list[float]:
    """Processor time of each run, in ms."""
    found = []
    for _ in range(count):
        began = time.process_time()
        work()
        found.append(round((time.process_time() - began) * 1000, 1))
    return found


def table(content: dict[str, Any]) -> str:
    """The figures as docs/performance.md has them: the least of a few runs, because noise only ever adds."""
    rows = [
        "",
        "",
        "| of a month of {records:,} records, {hourly_rows:,} hourly sums, {bytes:,} bytes | |",
        "|---|---|",
    ]
    for by, found in content["report_ms"].items():
        rows.append(f"| the month's report by {by} | {min(found):,.0f} ms |")
    for since, found in content["spent_ms"].items():
        rows.append(f"| what was spent: {since} | {min(found):,.0f} ms |")
    for name, speed in content["exported_per_s"].items():
        rows.append(f"| export as {name} | {speed:,} records a second |")
    rows.append(f"| `ledger verify` | {content['verified_per_s']:,} records a second |")
    pages = content["pages_per_call"]
    rows.append(f"| pages written by a lease and its record, in an empty file | {pages['empty']:g} |")
    rows.append(f"| the same, in this one | {pages['full']:g} |")
    step = content["retention"]
    rows.append(f"| one step of retention | {step['pages']:g} pages, {step['ms']:g} ms |")
    said = ", ".join(f"{name} {value}" for name, value in content["machine"].items())
    rows += ["", f"{content['at'][:10]}, commit {content['commit']}: {said}.", "", ""]
    return "\n".join(rows).format(**content)


def filled(text: str, content: dict[str, Any]) -> str:
    """docs/performance.md with this result between its marks."""
    return between_marks(text, "ledger: by python -m bench.ledger", table(content))


if __name__ == "__main__":
    main()
