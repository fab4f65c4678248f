"""The ledger's writer thread: all that waits goes down in one commit; what it does when that can't be had."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import structlog

from proxy.billing.ledger_errors import LedgerBroken, LedgerUnusable, RowRefused
from proxy.billing.ledger_file import DISK_FULL, LedgerFile, Removable, describe, is_locked
from proxy.errors import ProxyRefused, Reason

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

CHECKPOINT_EVERY = 1_000
"""Rows written between two checkpoints: a WAL of 2 MB where many calls share a commit, of 16 MB where none does."""

REMOVED_AT_ONCE = 100
"""Records that retention removes in one step, which a commit may have to wait for: some milliseconds."""
REMOVAL_PAUSE_S = 0.1
LOOK_FOR_OLD_S = 60.0

ROW_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    OverflowError,
    UnicodeError,
)
"""What one row's values can raise. Every other error is the file's or the disk's."""

FULL_MESSAGE = (
    "The ledger's disk is full, so calls can't be written down. Free space on it; calls are let in again by themselves."
)
LOCKED_MESSAGE = (
    "Another process has the ledger file locked, so calls can't be written down. End that one; calls are let in again"
    " by themselves."
)


class Kind(Enum):
    """What a posted row is."""

    LEASE = 0
    RECORD = 1
    DROP = 2


Row = tuple[Any, ...] | list[Any]
Waiter = asyncio.Future[None] | None
Posted = tuple[Kind, Row, Waiter]


class Writer(threading.Thread):
    """Commits what the event loop posts, until it is told to stop or the file fails.

    `inbox`, `wake` and `stopping` are the loop's side: append, then release `wake` if it is locked, unless the row can
    wait for the next commit. `available` is False while the disk is full or another process has the file locked, and
    after the file failed; `refusal` then says why calls are refused.
    """

    def __init__(
        self,
        file: LedgerFile,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[LedgerBroken | None], None],
        on_commit: Callable[[float], None],
        *,
        available: bool,
        tick_s: float,
        patience_s: float,
        removable: Callable[[], Removable] | None,
    ) -> None:
        """`removable` tells which records may go; None: they stay for ever."""
        super().__init__(name="ledger-writer", daemon=True)
        self.inbox: deque[Posted] = deque()
        self.wake = threading.Lock()
        self.wake.acquire()
        self.stopping = False
        self.available = available
        self.refusal = FULL_MESSAGE
        self._file = file
        self._loop = loop
        self._on_end = on_end
        self._on_commit = on_commit
        self._tick_s = tick_s
        self._patience_s = patience_s
        self._batch: list[Posted] = []
        self._unchecked = 0
        self._next_try = 0.0
        self._removable = removable
        self._next_removal = 0.0 if removable else math.inf
        self._removed = 0

    def run(self) -> None:
        """The thread's life. At its end `on_end` is called on the loop, with LedgerBroken where the file failed."""
        try:
            while self._turn():
                pass
            self._file.close()
        except Exception as error:
            self.available = False
            self._file.abandon()
            advice = "end the process that holds it" if is_locked(error) else "look at the disk"
            broken = LedgerBroken(
                f"The ledger file {self._file.path} can't be written: {describe(error)}. This process ends; {advice}"
                " before it is started again."
            )
            self.inbox.extendleft(reversed(self._batch))
            self._call(self._on_end, broken)
        else:
            self._call(self._on_end, None)

    def _turn(self) -> bool:
        """Waits for news or the next tick, then writes all there is. Returns whether to go on."""
        self.wake.acquire(timeout=self._patiently())
        stopping = self.stopping
        self._batch = batch = [self.inbox.popleft() for _ in range(len(self.inbox))]
        if not self._file.in_place():
            raise LedgerUnusable("it was moved, removed or replaced, perhaps by a backup that was restored")
        if batch:
            self._write(batch)
            self._batch = []
            if self._unchecked >= CHECKPOINT_EVERY:
                self._checkpoint()
        if not self.available and time.monotonic() >= self._next_try:
            self._let_in_again()
        if self._removable and self.available and not stopping and time.monotonic() >= self._next_removal:
            self._remove(self._removable())
        return not stopping

    def _patiently(self) -> float:
        """How long to wait for news: to the next tick, or the next step of retention."""
        if not self.available:
            return self._tick_s
        return max(0, min(self._tick_s, self._next_removal - time.monotonic()))

    def _write(self, batch: list[Posted]) -> None:
        try:
            self._commit(batch)
        except ROW_FAULTS as error:
            if len(batch) == 1:
                log.error("ledger_row_refused", record_id=batch[0][1][0], why=describe(error))
                fault = f"A row of the ledger can't be written: {describe(error)}."
                self._tell(batch, lambda: RowRefused(fault))
                return
            for posted in batch:
                self._write([posted])
        else:
            self._unchecked += len(batch)
            self._tell(batch, None)

    def _commit(self, batch: list[Posted]) -> None:
        """Commits a batch; where that can't be had now, without its leases, again and again while patience lasts."""
        give_up = None
        while batch:
            rows: dict[Kind, list[Row]] = {kind: [] for kind in Kind}
            for kind, row, _ in batch:
                rows[kind].append(row)
            began = time.monotonic()
            try:
                self._file.commit(rows[Kind.LEASE], rows[Kind.RECORD], rows[Kind.DROP])
                if self.refusal is LOCKED_MESSAGE:
                    self._next_try = 0.0  # it was let go
                return self._on_commit(time.monotonic() - began)
            except sqlite3.OperationalError as error:
                if not (error.sqlite_errorcode in DISK_FULL or is_locked(error)):
                    raise
                now = time.monotonic()
                if give_up is None:
                    give_up = now + self._patience_s
                elif now > give_up:
                    raise
                else:
                    time.sleep(min(self._tick_s, 0.1))
                if is_locked(error):
                    self._locked(batch)
                else:
                    self._disk_full(batch)

    def _disk_full(self, batch: list[Posted]) -> None:
        """Throws off the ballast for the records of calls in flight, and refuses the leases of new ones."""
        if self.available:
            log.error("ledger_disk_full", file=str(self._file.path), what="new calls are refused until there is space")
        self._file.drop_ballast()
        self._refuse_leases(batch, FULL_MESSAGE)

    def _locked(self, batch: list[Posted]) -> None:
        """Has the records of calls in flight wait, and refuses the leases of new ones: for how long, nobody knows.

        What is only dropped can wait for as long as it takes, save at the end.
        """
        if self.available:
            log.error("ledger_locked", file=str(self._file.path), what="new calls are refused until it is let go")
        self._refuse_leases(batch, LOCKED_MESSAGE)
        if not self.stopping and all(kind is Kind.DROP for kind, _, _ in batch):
            self.inbox.extendleft(reversed(batch))
            batch.clear()

    def _refuse_leases(self, batch: list[Posted], message: str) -> None:
        """Those of the batch, and those that were posted while it waited."""
        self.refusal, self.available = message, False
        self._next_try = time.monotonic() + self._tick_s
        came = [self.inbox.popleft() for _ in range(len(self.inbox))]
        refused = [posted for posted in (*batch, *came) if posted[0] is Kind.LEASE]
        batch[:] = [posted for posted in batch if posted[0] is not Kind.LEASE]
        self.inbox.extendleft(reversed([posted for posted in came if posted[0] is not Kind.LEASE]))
        self._tell(refused, lambda: ProxyRefused(Reason.LEDGER_UNAVAILABLE, message))

    def _let_in_again(self) -> None:
        self._next_try = time.monotonic() + self._tick_s
        if self._file.restore_ballast() and not self._file.locked():
            log.warning("ledger_available", file=str(self._file.path), what="it can be written: calls are let in")
            self.available = True

    def _remove(self, which: Removable) -> None:
        """One step of retention, after the waiters were told. What comes meanwhile is written before the next step."""
        with self._on_full_disk():
            removed = self._file.remove(which.before, REMOVED_AT_ONCE, which.through)
            self._removed += removed
            self._unchecked += removed
            more = removed == REMOVED_AT_ONCE
            self._next_removal = time.monotonic() + (REMOVAL_PAUSE_S if more else LOOK_FOR_OLD_S)
            if self._removed and not more:
                log.info("ledger_retention", file=str(self._file.path), removed=self._removed)
                self._removed = 0
        if self._unchecked >= CHECKPOINT_EVERY:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """After the waiters were told, so that none of them waits for it."""
        with self._on_full_disk():
            self._file.checkpoint()
            self._unchecked = 0

    @contextmanager
    def _on_full_disk(self) -> Iterator[None]:
        """What no call waits for has failed for want of space: the next commit would, too."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if is_locked(error):
                return  # the next one finds it free
            if error.sqlite_errorcode not in DISK_FULL:
                raise
            self._disk_full([])

    def _tell(self, batch: Iterable[Posted], fault: Callable[[], Exception] | None) -> None:
        waiters = [waiter for _, _, waiter in batch if waiter is not None]
        if waiters:
            self._call(resolve, waiters, fault)

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.warning("ledger_loop_closed", what="the event loop ended before its ledger was closed")


def resolve(waiters: Iterable[asyncio.Future[None]], fault: Callable[[], Exception] | None) -> None:
    """On the loop: tells all who wait, save those who were cancelled."""
    for waiter in waiters:
        if not waiter.done():
            if fault is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(fault())
