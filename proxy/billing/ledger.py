"""The ledger as the event loop sees it: leases opened and dropped, records written; and what is done at start-up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from proxy.billing.ledger_errors import LedgerBroken, LedgerUnusable
from proxy.billing.ledger_file import BALLAST_BYTES, LedgerFile, Removable, with_all_room
from proxy.billing.ledger_reading import reading
from proxy.billing.ledger_writer import Kind, Row, Writer, resolve
from proxy.billing.records import UsageRecord, to_row
from proxy.billing.shipped_mark import Mark
from proxy.errors import ProxyRefused, Reason

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(UsageRecord).decode


class Ledger:
    """A worker's ledger file. Open it before the door opens, use it from the event loop that opened it, close it last.

    The life of a call: `open_lease` before it goes up, `write` before its last byte comes down; or `drop_lease`, if
    nothing went up after all.
    """

    def __init__(
        self,
        file: LedgerFile,
        on_broken: Callable[[LedgerBroken], None],
        on_commit: Callable[[float], None],
        *,
        available: bool,
        tick_s: float,
        patience_s: float,
        removable: Callable[[], Removable] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_broken = on_broken
        self._broken: LedgerBroken | None = None
        self._closing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._writer = Writer(
            file,
            self._loop,
            self._end,
            on_commit,
            available=available,
            tick_s=tick_s,
            patience_s=patience_s,
            removable=removable,
        )
        self.file_id = file.file_id
        """Names this worker, before and after a restart."""
        self.path = file.path
        self._inbox = self._writer.inbox
        self._wake = self._writer.wake

    @classmethod
    def open(
        cls,
        data_dir: Path,
        slot: str = "0",
        *,
        now_us: Callable[[], int],
        on_broken: Callable[[LedgerBroken], None],
        on_commit: Callable[[float], None] = lambda _: None,
        random: Callable[[int], bytes] = os.urandom,
        ballast_bytes: int = BALLAST_BYTES,
        tick_s: float = 1.0,
        patience_s: float = 30.0,
        retention_us: int = 0,
        shipped: bool = False,
        locked: bool = False,
    ) -> Ledger:
        """Opens `data_dir`/ledger/`slot`.db, closes out what a predecessor left open, and starts the writer.

        To be called with the loop running; it blocks for milliseconds. `now_us` is the clock, in Unix microseconds.
        `on_broken` is called on the loop, once, when the file fails: break off all calls and end the process.
        `on_commit` is called in the writer's thread with the seconds that a commit took, its fsync included. `tick_s`:
        how often a full disk, or a file that another process has locked, is looked at again. `patience_s`: how long a
        record waits for either before the file counts as failed; leases don't wait. `retention_us`: how old records
        get before they are removed, little by little; 0: they stay. `shipped`: those alone go that are known to be in
        PostgreSQL. `locked`: see LedgerFile.open.

        Raises LedgerLocked where another process owns the file, LedgerUnusable where it can't be used.
        """
        file = LedgerFile.open(
            data_dir, slot, busy_timeout_s=patience_s, ballast_bytes=ballast_bytes, random=random, locked=locked
        )
        try:
            with_all_room(file.path, lambda: close_out(file, now_us()))
            if not (available := file.restore_ballast()):
                log.error("ledger_disk_full", file=str(file.path), what="no room for the ballast: calls are refused")
            ledger = cls(
                file,
                on_broken,
                on_commit,
                available=available,
                tick_s=tick_s,
                patience_s=patience_s,
                removable=_removable(file, now_us, retention_us, shipped),
            )
        except BaseException:
            file.close()
            raise
        ledger._writer.start()
        return ledger

    @property
    def available(self) -> bool:
        """Whether new calls are let in: the file is open, hasn't failed, and can be written."""
        return self._writer.available and not self._closing

    async def open_lease(self, record: UsageRecord) -> None:
        """Returns when the lease is committed, so that it survives the process. When it raises, no lease stands.

        `record` is what to bill if nobody learns better: outcome `unsettled`, estimated. Raises
        ProxyRefused(LEDGER_UNAVAILABLE) where no call can be let in, LedgerBroken where the file failed meanwhile,
        RowRefused where a value can't be written.
        """
        if not self._writer.available or self._closing:
            raise ProxyRefused(Reason.LEDGER_UNAVAILABLE, self._why())
        try:
            await self._post(Kind.LEASE, (record.record_id, record.started_at, _encode(record)))
        except BaseException:
            self.drop_lease(record.record_id)
            raise

    async def write(self, record: UsageRecord) -> None:
        """Returns when the record is on the disk, and its lease gone in the same commit. A second time does nothing.

        Cancelled, it is written all the same. Raises LedgerBroken where the file failed, RowRefused where a value of
        the record can't be written: then its lease stands, and the next start writes that down as `unsettled`.
        """
        if self._broken is not None or self._closing:
            raise self._broken or LedgerBroken("The ledger is closed: this record came after it.")
        await self._post(Kind.RECORD, to_row(record))

    def drop_lease(self, record_id: str, dropped: Callable[[], object] = lambda: None) -> None:
        """Removes a lease of which nothing went up, soon: a process that dies before that bills it as unsettled.

        `dropped` is called when it is gone. What the lease holds elsewhere is given back then: not before, or what is
        billed would count nowhere.
        """
        self._post(Kind.DROP, (record_id,)).add_done_callback(lambda done: done.exception() or dropped())

    async def close(self) -> None:
        """Commits all that was posted, closes the file and lets go of it. May be called again."""
        if not self._closing:
            self._closing = self._writer.stopping = True
            self._news()
        await asyncio.shield(self._ended)

    def _post(self, kind: Kind, row: Row) -> asyncio.Future[None]:
        waiter = self._loop.create_future()
        self._inbox.append((kind, row, waiter))
        self._news()
        return waiter

    def _news(self) -> None:
        """Wakes the writer; does nothing where it is awake and will look again."""
        if self._wake.locked():
            self._wake.release()

    def _why(self) -> str:
        if self._broken is not None:
            return "The ledger file failed, so calls can't be written down. This process is ending; try again."
        return "The server is closing its ledger. Try again." if self._closing else self._writer.refusal

    def _end(self, broken: LedgerBroken | None) -> None:
        """The writer's last word, on the loop."""
        self._ended.set_result(None)
        if broken is not None:
            self._broken = broken
            waiters = [waiter for _, _, waiter in self._inbox if waiter is not None]
            resolve(waiters, lambda: LedgerBroken(str(broken)))
            self._on_broken(broken)


def _removable(
    file: LedgerFile, now_us: Callable[[], int], retention_us: int, shipped: bool
) -> Callable[[], Removable] | None:
    if not retention_us:
        return None
    if not shipped:
        return lambda: Removable(now_us() - retention_us)
    mark = Mark(file.path, file.file_id)
    return lambda: Removable(now_us() - retention_us, mark.through())


def close_out(file: LedgerFile, now_us: int) -> list[UsageRecord]:
    """Writes each call that a predecessor left open as `unsettled`, and returns them.

    Raises LedgerUnusable for an unreadable lease.
    """
    unsettled = []
    for record_id, lease in file.open_leases():
        record = _open_call(file.path, record_id, lease)
        record.finished_at = now_us
        unsettled.append(record)
    if unsettled:
        file.commit([], [to_row(record) for record in unsettled], [])
        log.warning("ledger_closed_out", file=str(file.path), unsettled=len(unsettled))
    return unsettled


def open_calls(path: Path) -> list[UsageRecord]:
    """The calls that a file has open, as they were when they began. Raises LedgerUnusable."""
    with reading(path) as connection:
        found = connection.execute("SELECT record_id, record FROM leases").fetchall()
    return [_open_call(path, record_id, lease) for record_id, lease in found]


def _open_call(path: Path, record_id: str, lease: bytes) -> UsageRecord:
    try:
        return _decode(lease)
    except msgspec.DecodeError as error:
        raise LedgerUnusable(f"The lease {record_id} in {path} can't be read: {error}.") from error
