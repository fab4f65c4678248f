"""A data_dir moved into PostgreSQL: its ledger files are shipped, then its database is copied, which ends the move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from proxy.billing.ledger_reading import file_id_of, ledger_files, reading
from proxy.billing.ledger_tables import shipped
from proxy.control.shipper import ship_folder
from proxy.store import copying
from proxy.store.copying import CopyDiffers, TargetTaken
from proxy.store.database import Database


class MoveRefused(Exception):
    """It can't be moved; the text says why, and what to do. What was moved by then stays, and is gone on from."""


@dataclass(frozen=True)
class Move:
    """From the SQLite database and the ledger files of a data_dir, on which no server runs, to PostgreSQL.

    There is no state of it but what is in the target: how far each file is shipped, and whether the database is copied,
    which is done last and whole. So it may be killed anywhere, and is gone on with by being done again. Blocking.
    """

    source: Database
    data_dir: Path
    target: Database

    def check(self) -> bool:
        """Whether the database is still to be copied; False: it is, this has been done before.

        Raises MoveRefused where something else is in the target, StoreError, LedgerUnusable.
        """
        ours = set(self.file_ids())
        with self._explained(), self.source.reading() as source, self.target.reading() as target:
            empty = copying.check(source, target)
            others = set(target.execute(select(shipped.c.file_id)).scalars()) - ours
        if others and empty:
            raise MoveRefused(
                f"{self.target} has records of {len(others):,} other ledger files: move into an empty database, and "
                "ship other files into that afterwards"
            )
        if others:
            raise MoveRefused(
                f"{self.data_dir} was moved to {self.target} before, and servers have worked on that since: "
                "there is nothing left to move"
            )
        return empty

    def file_ids(self) -> dict[str, Path]:
        """The ledger files, also of slots that no worker has any more, by their ids. Raises LedgerUnusable."""
        found = {}
        for path in ledger_files(self.data_dir):
            if path.stat().st_size:  # else a server died before it had made its tables
                with reading(path) as connection:
                    found[file_id_of(connection)] = path
        return found

    def ship(
        self,
        day_of: Callable[[int], str],
        now_us: Callable[[], int],
        on_left: Callable[[int], object] = lambda records: None,
    ) -> None:
        """Closes out what a dead server left open, and ships every record, as `ship_folder`."""
        ship_folder(self.target, self.data_dir, now_us, day_of, on_left)

    def copy(self) -> bool:
        """Copies the database; False where it was there. Raises MoveRefused, StoreError."""
        with self._explained():
            return copying.copy(self.source, self.target)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TargetTaken as error:
            raise MoveRefused(
                f"{self.target} can't be moved into: {error}. If a move filled it, the source changed after that, and "
                "no server works on it yet: drop that database, make it anew, move again. Else move into another one"
            ) from None
        except CopyDiffers as error:
            raise MoveRefused(f"{self.target}: {error}") from None
