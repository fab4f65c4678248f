"""Counts the steps of SQLite's machine: the bound of a query's work."""

from __future__ import annotations

import sqlite3


class Steps:
    """Steps that a connection takes from here on, in hundreds or whatever `every` is."""

    def __init__(self, connection: sqlite3.Connection, every: int) -> None:
        self.taken = 0
        connection.set_progress_handler(self._step, every)

    def _step(self) -> int:
        self.taken += 1
        return 0
