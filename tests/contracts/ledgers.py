"""The ledgers that the contract of reading is held against, each filled by real writers: files, and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from proxy.billing import partitions
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import UsageRecord, to_row
from proxy.billing.sources import Source, Sources
from proxy.store.database import Database
from tests.billing.shipped import ship_all

KINDS = ("one_file", "several_files", "postgres_database", "pgbouncer_database")
"""Of the latter, the fixture that makes it."""


@dataclass
class Books:
    """A ledger and its writers. With `postgres`, the writers are other nodes', and ship what they have written."""

    sources: Sources
    writers: Sequence[tuple[Path, str]]
    """Data folder and slot of each."""
    postgres: Database | None = None
    _turn: int = field(default=0, init=False)

    @property
    def bill(self) -> list[Source]:
        return self.sources.bill()

    def write(self, records: Iterable[UsageRecord]) -> None:
        """By turns: each writer gets a share of them."""
        records = list(records)
        for number, (data_dir, slot) in enumerate(self.writers):
            share = records[(number + self._turn) % len(self.writers) :: len(self.writers)]
            write(data_dir, slot, share)
        self._turn += len(records)
        self.ship()

    def ship(self) -> None:
        for data_dir in {data_dir for data_dir, _ in self.writers} if self.postgres else ():
            for path in ledger_files(data_dir):
                ship_all(self.postgres, path)

    def remove(self, before: int) -> None:
        """As retention does it, all at once."""
        if self.postgres:
            partitions.drop_before(self.postgres, before)
            return
        for data_dir, slot in self.writers:
            with closing(_opened(data_dir, slot)) as file:
                while file.remove(before, 1_000):
                    pass


def write(data_dir: Path, slot: str, records: Iterable[UsageRecord]) -> None:
    with closing(_opened(data_dir, slot)) as file:
        file.commit([], [to_row(record) for record in records], [])


def _opened(data_dir: Path, slot: str) -> LedgerFile:
    return LedgerFile.open(data_dir, slot, busy_timeout_s=30, ballast_bytes=0, random=os.urandom)


def books(kind: str, tmp_path: Path, database: Database | None) -> Books:
    """An empty ledger of a kind. `database`: PostgreSQL's."""
    here = tmp_path / "here"
    if kind == "one_file":
        return Books(Sources(here), [(here, "0")])
    if kind == "several_files":
        return Books(Sources(here), [(here, slot) for slot in ("0", "1", "2", "control")])
    assert database is not None
    one, other = tmp_path / "one", tmp_path / "other"
    return Books(Sources(here, database), [(one, "0"), (one, "1"), (other, "0")], database)
