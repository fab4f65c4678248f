"""The shipper: records of this node's ledger files → PostgreSQL, and what PostgreSQL's tables need now and then."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from proxy.billing import partitions, shipping
from proxy.billing.jobs import claimed
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_reading import file_id_of, ledger_files, reading
from proxy.billing.ledger_schema import version_of
from proxy.billing.orphans import close_out_orphan
from proxy.billing.records import UsageRecord
from proxy.billing.shipped_mark import marked_through, write_mark
from proxy.billing.shipping import Cursor, Moved, Place, Shipping
from proxy.store.database import Database, StoreError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

T = TypeVar("T")

PAUSE_S = 1.0
"""Between two looks at files of which all is shipped."""
LOOK_S = 10.0
"""How often PostgreSQL is told which files have a live worker, and asked how far each file is shipped."""
AMISS_S = 60.0
"""How long a file is left alone that isn't the one that was shipped: two copies of one may be at work."""
CHORES_S = 60.0
PARTITIONS_EVERY_US = 3_600_000_000
MONTHS_AHEAD = 2


@dataclass
class _File:
    """A ledger file of this data_dir. `cursor` is None until PostgreSQL has told it."""

    path: Path
    file_id: str
    cursor: Cursor | None = None
    not_before: float = 0.0

    @property
    def slot(self) -> str:
        return self.path.stem


class Shipper:
    """Ships the ledger files of one data_dir, until all is in PostgreSQL and from then on.

    It alone knows how far each file is: what it believes is held against `shipped`, under its lock, in the transaction
    that inserts records. So it may be killed anywhere, run twice, and meet a database that was restored.
    """

    def __init__(
        self,
        database: Database,
        data_dir: Path,
        owned: Collection[str],
        now_us: Callable[[], int],
        *,
        node: str,
        day_of: Callable[[int], str],
        retention_us: int = 0,
        on_backlog: Callable[[int, float], object] = lambda records, seconds: None,
        on_closed_out: Callable[[str, list[UsageRecord]], object] = lambda file_id, records: None,
        random: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`owned`: the slots that a worker writes, or is about to. Other files are closed out before they are shipped,
        under the lock of the ledger's folder, which this process or its parent has.

        `node` is this machine's name. `day_of` names the day of a time in Unix microseconds. `retention_us`: how old
        records get in PostgreSQL; 0: they stay. `on_backlog` is called with the number of records that aren't shipped,
        and the age of the oldest in seconds; `on_closed_out` with a file's id and its calls that are now written down
        as `unsettled`. Both are called in a thread.
        """
        self._database = database
        self._data_dir = data_dir
        self._owned = owned
        self._now_us = now_us
        self._node = node
        self._day_of = day_of
        self._retention_us = retention_us
        self._on_backlog = on_backlog
        self._on_closed_out = on_closed_out
        self._random = random
        self._clock = clock
        self._shipping = Shipping(database)
        self._files: dict[Path, _File] = {}
        self._closed_out: set[Path] = set()
        self._next_look = self._next_chores = 0.0
        self._told: dict[str, str] = {}
        self._stepping = threading.Lock()

    async def watch(self) -> None:
        """Ships for as long as it isn't cancelled. What can't be had now is told once, and tried again."""
        while True:
            more = await asyncio.to_thread(self._try)
            await asyncio.sleep(0 if more else PAUSE_S)

    async def finish(self, within_s: float) -> None:
        """Ships what there is; after `watch` was cancelled, and the ledger files closed.

        After so long nothing more is begun. What is under way then may take as long as PostgreSQL is given for it.
        """
        deadline = self._clock() + within_s
        while await asyncio.to_thread(self._try) and self._clock() < deadline:
            pass

    def _try(self) -> bool:
        try:
            with self._stepping:  # a thread goes on with its step when `watch` is cancelled
                more = self.step()
        except (StoreError, OSError) as error:
            self._tell("", str(error))
            return False
        except Exception as error:  # a mistake of ours: calls go on, and so does everything else of this process
            self._tell("", f"{type(error).__name__}: {error}")
            log.debug("ledger_shipping_failed", exc_info=True)
            return False
        self._tell("", None)
        return more

    def step(self) -> bool:
        """Ships a page of each file; returns whether there is more at once. Raises StoreError, OSError.

        A file that can't be read is told, and holds up no other.
        """
        self._find()
        self._measure()
        if self._clock() >= self._next_look:
            self._look()
        more = [self._guarded(file, self._ship, False) for file in list(self._files.values())]
        if self._clock() >= self._next_chores:
            self._do_chores()
        return any(more)

    def _find(self) -> None:
        """The files that are there; those without an owner are closed out first."""
        there = ledger_files(self._data_dir)
        for gone in self._files.keys() - set(there):
            del self._files[gone]
        for path in there:
            if path.stem not in self._owned and path not in self._closed_out:
                self._guarded(_File(path, ""), self._close_out, None)
                if path not in self._closed_out:
                    continue
            if path not in self._files and (file_id := self._guarded(_File(path, ""), _file_id, "")):
                self._files[path] = _File(path, file_id)
                self._next_look = 0.0

    def _close_out(self, orphan: _File) -> None:
        file_id, unsettled = close_out_orphan(orphan.path, self._now_us(), self._random)
        self._closed_out.add(orphan.path)
        self._on_closed_out(file_id, unsettled)

    def _measure(self) -> None:
        records, oldest = 0, None
        for file in self._files.values():
            nothing: tuple[int, int | None] = 0, None
            count, since = self._guarded(file, _unshipped, nothing)
            records += count
            if since is not None:
                oldest = since if oldest is None else min(oldest, since)
        self._on_backlog(records, max(0.0, (self._now_us() - oldest) / 1_000_000) if oldest is not None else 0.0)

    def _look(self) -> None:
        """Has PostgreSQL know which files have a live worker; learns how far each is shipped, if that has changed."""
        live = [file.file_id for file in self._files.values() if file.slot in self._owned]
        places = {file.file_id: Place(self._node, file.slot) for file in self._files.values()}
        cursors = shipping.look(self._database, places, live)
        for file in self._files.values():
            file.cursor = cursors[file.file_id]
            self._mark(file)
        self._next_look = self._clock() + LOOK_S

    def _ship(self, file: _File) -> bool:
        if file.cursor is None or self._clock() < file.not_before:
            return False
        try:
            with reading(file.path) as connection:
                if file_id_of(connection) != file.file_id:
                    del self._files[file.path]  # another was put in its place
                    return True
                if lacking := shipping.lack(connection, file.cursor, self._day_of):
                    if not lacking.missing:
                        dropped = shipping.dropped_of(self._database, connection, file.cursor)
                        lacking = lacking._replace(through=max(lacking.through, dropped))
                    return self._begin_again(file, file.cursor, lacking)
                rows = shipping.read_page(connection, file.file_id, file.cursor.seq)
            if not rows:
                return False
            file.cursor = self._shipping.ship(file.file_id, file.cursor, rows)
        except Moved:
            self._next_look = 0.0
            return True
        self._mark(file)
        return True

    def _begin_again(self, file: _File, cursor: Cursor, lacking: shipping.Lack) -> bool:
        """Where PostgreSQL's records of the file end, the file doesn't go on: says so, and ships what there is."""
        if lacking.missing and cursor == Cursor():
            log.info(
                "ledger_sums_shipped",
                file=str(file.path),
                records=f"1 to {lacking.through}",
                what="retention had removed these records: their hourly sums, all that was left of them, are shipped",
            )
        elif lacking.missing:
            log.error(
                "ledger_records_missing",
                file=str(file.path),
                records=f"{cursor.seq + 1} to {lacking.through}",
                what="they were removed from the file before PostgreSQL had them: restore a newer backup of it, or "
                "take their sums from the file's usage_hourly",
            )
        else:
            log.error(
                "ledger_file_went_back",
                file=str(file.path),
                shipped_through=cursor.seq,
                again_from=lacking.through + 1,
                what="the file isn't the one that was shipped: a copy that was restored, or two copies at work. It is "
                "shipped again, but for what retention has dropped since; what PostgreSQL has stays",
            )
            file.not_before = self._clock() + AMISS_S
        file.cursor = self._shipping.restart(file.file_id, cursor, lacking)
        return True

    def _do_chores(self) -> None:
        """Partitions ahead of time, and those that retention drops: by one of those who share the database."""
        self._next_chores = self._clock() + CHORES_S
        with claimed(self._database, "ledger_partitions", PARTITIONS_EVERY_US) as mine:
            if mine:
                partitions.make(self._database, partitions.ahead(self._now_us(), MONTHS_AHEAD))
                if self._retention_us:
                    partitions.drop_before(self._database, self._now_us() - self._retention_us)

    def _guarded(self, file: _File, do: Callable[[_File], T], otherwise: T) -> T:
        """What `do` returns, or `otherwise` where the file can't be used, which is told once."""
        step = f"{file.path} {do.__name__}"
        try:
            done = do(file)
        except (LedgerUnusable, sqlite3.Error) as error:
            self._tell(step, str(error))
            return otherwise
        self._tell(step, None)
        return done

    def _mark(self, file: _File) -> None:
        """Lets the file's writer prune. A full disk has that wait, and nothing else."""
        step = f"{file.path} mark"
        try:
            write_mark(file.path, file.file_id, file.cursor.seq if file.cursor else 0)
        except OSError as error:
            self._tell(step, f"{file.path}: what is shipped can't be pruned: {error}")
        else:
            self._tell(step, None)

    def _tell(self, of: str, why: str | None) -> None:
        if self._told.get(of) == why:
            return
        if why is None:
            del self._told[of]
            log.info("ledger_shipping_goes_on", database=str(self._database))
        else:
            self._told[of] = why
            log.error("ledger_shipping_waits", why=why, what="records stay in their ledger files until it goes on")


def ship_folder(
    database: Database,
    data_dir: Path,
    now_us: Callable[[], int],
    day_of: Callable[[int], str],
    on_left: Callable[[int], object] = lambda records: None,
    on_closed_out: Callable[[str, list[UsageRecord]], object] = lambda file_id, records: None,
) -> None:
    """Ships all that is in a folder on which no server runs; what a dead one left open is closed out first.

    The lock of its ledger must be this process's. `on_left` is told, page by page, how many records are left;
    `on_closed_out` as the Shipper's. A file that can't be read is logged, and passed over. Raises StoreError, OSError.
    """
    shipper = Shipper(
        database,
        data_dir,
        (),
        now_us,
        node=platform.node(),
        day_of=day_of,
        on_backlog=lambda records, _: on_left(records),
        on_closed_out=on_closed_out,
    )
    while shipper.step():
        pass


def _file_id(file: _File) -> str:
    """ "" of a file that is being made."""
    with reading(file.path) as connection:
        return file_id_of(connection) if version_of(connection) else ""


def _unshipped(file: _File) -> tuple[int, int | None]:
    """How many records aren't shipped, and when the first was written; by the mark until PostgreSQL has told it."""
    through = file.cursor.seq if file.cursor else marked_through(file.path, file.file_id)
    with reading(file.path) as connection:
        last = connection.execute("SELECT max(seq) FROM usage_records").fetchone()[0] or 0
        oldest = connection.execute(
            "SELECT coalesce(finished_at, started_at) FROM usage_records WHERE seq > ? ORDER BY seq LIMIT 1", (through,)
        ).fetchone()
    return (last - through, oldest[0]) if oldest else (0, None)
