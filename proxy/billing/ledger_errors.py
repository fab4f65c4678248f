"""What can be wrong with a ledger file; each message says what happened and what to do."""

from __future__ import annotations


class LedgerError(Exception):
    """Something is wrong with a ledger file."""


class LedgerLocked(LedgerError):
    """Another process owns the file."""


class LedgerUnusable(LedgerError):
    """The file can't be opened: newer than this program, not a ledger, on a network file system, disk full."""


class LedgerBroken(LedgerError):
    """The file failed: what waited for it may or may not be in it. The process must end; its successor recovers."""


class RowRefused(LedgerError):
    """One row can't be written, because of a value in it; everything else was."""
