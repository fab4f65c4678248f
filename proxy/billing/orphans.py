"""Ledger files that nobody writes any more, as there are fewer workers: closed out, and counted like all others."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

import structlog

from proxy.billing.ledger import close_out
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_file import BALLAST_BYTES, LedgerFile
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import UsageRecord

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

LOCK_WAIT_S = 10.0


def orphans(data_dir: Path, owned: Collection[str]) -> list[Path]:
    """The files of all slots but these. Raises OSError."""
    return [path for path in ledger_files(data_dir) if path.stem not in owned]


def close_out_orphan(
    path: Path, now_us: int, random: Callable[[int], bytes] = os.urandom
) -> tuple[str, list[UsageRecord]]:
    """Writes the calls that its last owner left open as `unsettled`; returns the file's id, and these.

    For who has the lock of the ledger's folder, by itself or through its parent. Raises LedgerUnusable.
    """
    file = LedgerFile.open(
        path.parent.parent,
        path.stem,
        busy_timeout_s=LOCK_WAIT_S,
        ballast_bytes=BALLAST_BYTES,
        random=random,
        locked=True,
    )
    with closing(file):
        unsettled = close_out(file, now_us)
        file.drop_ballast()
    return file.file_id, unsettled


def close_out_orphans(data_dir: Path, owned: Collection[str], now_us: int) -> dict[Path, str]:
    """Closes out all of them; returns the ids of those that could be. Of others it tells why. Raises OSError."""
    closed = {}
    for path in orphans(data_dir, owned):
        try:
            closed[path], _ = close_out_orphan(path, now_us)
        except LedgerUnusable as error:
            log.error("ledger_file_unusable", why=str(error), what="nobody owns it, and what it holds isn't counted")
    return closed
