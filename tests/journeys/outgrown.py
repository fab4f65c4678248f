"""A data folder to be moved: projects, keys, ledger files as servers leave them; and a brake for PostgreSQL."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import psycopg

from proxy.billing.ledger_file import LedgerFile
from proxy.billing.records import to_row
from proxy.config.schema import Storage
from proxy.store.database import open_database
from proxy.tenants import disabled_upstreams, keys, projects, uses
from tests.billing.sample import NOON, lease, sample
from tests.postgres_servers import PostgresDatabase

AT_ONCE = 5_000
HOUR_US = 3_600_000_000
LEASES = 3
PATIENCE_S = 60.0
COMES_WITHIN_S = 3_600.0
"""A million records are on the way for minutes."""


def fill(data_dir: Path, records: int, *, removed: int = 0) -> tuple[int, int]:
    """Puts so many records into two ledger files, of which retention then removes the oldest of the first.

    In the second, of a slot that no server has any more, LEASES calls are open. Returns how many calls there are, those
    too, and what they cost in nano-dollars.
    """
    database = open_database(Storage(data_dir=data_dir))
    for name in ("acme", "globex"):
        projects.create(database, name, NOON, actor="test")
        key, _ = keys.create(database, name, "web", NOON, secrets.randbelow, actor="test")
        uses.write_uses(database, {key.id: NOON + 60_000_000})
    disabled_upstreams.disable(database, "google-2", NOON, actor="test")
    cost = sum(_write(data_dir, slot, records // 2, removed if slot == "0" else 0) for slot in ("0", "3"))
    calls = records // 2 * 2 + LEASES
    return calls, cost + LEASES * 7_000


def _write(data_dir: Path, slot: str, count: int, removed: int) -> int:
    """Calls of five months and more, an hour apart or less."""
    draw, cost = random.Random(slot), 0
    step = 4_000 * HOUR_US // count
    with closing(
        LedgerFile.open(data_dir, slot, busy_timeout_s=PATIENCE_S, ballast_bytes=4096, random=os.urandom)
    ) as file:
        for begin in range(0, count, AT_ONCE):
            rows = []
            for number in range(begin, min(begin + AT_ONCE, count)):
                usd = draw.choice((None, draw.randrange(10**9)))
                at = NOON - 4_000 * HOUR_US + number * step
                names = {"project": draw.choice(("acme", "globex")), "model": draw.choice(("m", "n"))}
                record = sample(f"{slot}-{number:07}", started_at=at, finished_at=at + 9, cost_usd=usd, **names)
                rows.append(to_row(record))
                cost += usd or 0
            file.commit([], rows, [])
            file.checkpoint()
        while removed > 0:
            removed -= file.remove(NOON, min(removed, AT_ONCE))
        if slot == "3":
            open_calls = (lease(f"open-{number}", cost_usd=7_000) for number in range(LEASES))
            file.commit([(call.record_id, call.started_at, msgspec.json.encode(call)) for call in open_calls], [], [])
    return cost


class Brake:
    """Holds whoever moves a database's rows, in the midst of a transaction, where the test wants it."""

    def __init__(self, postgres: PostgresDatabase) -> None:
        self._postgres = postgres

    @contextmanager
    def at(self, table: str, event: str, condition: str) -> Iterator[psycopg.Connection]:
        """From here on, the next change of such a row waits, until this ends, or the server."""
        with suppress(psycopg.OperationalError), self._postgres.client() as client:
            client.execute("SELECT pg_advisory_lock(42)")
            client.execute(
                "CREATE FUNCTION braked() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$"
            )
            client.execute(
                f"CREATE TRIGGER braked BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition})"
                " EXECUTE FUNCTION braked()"
            )
            yield client
        with suppress(psycopg.OperationalError), self._postgres.client() as client:
            client.execute(f"DROP TRIGGER braked ON {table}")
            client.execute("DROP FUNCTION braked")


def await_held(client: psycopg.Connection) -> None:
    """Waits until somebody waits at the brake."""
    give_up = time.monotonic() + COMES_WITHIN_S
    while not client.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone():
        assert time.monotonic() < give_up, "nobody came"
        time.sleep(0.01)
