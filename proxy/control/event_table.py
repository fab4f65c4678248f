"""Events as the database keeps them: each noted once, and its delivery, attempt by attempt. Times are Unix us."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import select

from proxy.store.database import Database
from proxy.store.tables import events
from proxy.store.upsert import insert

UNDELIVERED_AT_ONCE = 1_000


class Event(NamedTuple):
    """One event, as its row has it."""

    id: str
    type: str
    created_at: int
    once: str
    """What it is about, in one word: no other event has it."""
    body: str
    """The JSON that is sent."""
    attempts: int = 0
    next_attempt_at: int | None = None
    """None: it is not to be sent, or is delivered."""
    last_answer: str | None = None
    delivered_at: int | None = None


def note(database: Database, found: Iterable[Event]) -> list[Event]:
    """Writes events down. Returns those that are new: of which no event is there yet. Raises StoreError."""
    new = []
    with database.noting() as connection:
        for event in found:
            statement = insert(connection, events).values(**event._asdict()).on_conflict_do_nothing()
            if connection.execute(statement).rowcount:
                new.append(event)
    return new


def undelivered(database: Database) -> list[Event]:
    """The oldest that are still to be sent, the oldest first. Raises StoreError."""
    query = select(events).where(events.c.next_attempt_at.is_not(None)).order_by(events.c.id).limit(UNDELIVERED_AT_ONCE)
    with database.reading() as connection:
        return [Event(**row) for row in connection.execute(query).mappings()]


def claim(database: Database, event: Event, until: int) -> bool:
    """Takes an event to send, as one attempt more: whoever else sees it leaves it alone until then.

    False where somebody else has it. Should this process die, the event is sent again. Raises StoreError.
    """
    mine = events.c.id == event.id, events.c.next_attempt_at == event.next_attempt_at
    with database.noting() as connection:
        statement = events.update().where(*mine).values(attempts=event.attempts + 1, next_attempt_at=until)
        return connection.execute(statement).rowcount == 1


def delivered(database: Database, event: Event, at: int, said: str) -> None:
    """Raises StoreError."""
    done = {"delivered_at": at, "next_attempt_at": None, "last_answer": said}
    with database.noting() as connection:
        connection.execute(events.update().where(events.c.id == event.id).values(**done))


def failed(database: Database, event: Event, again_at: int, said: str) -> None:
    """Raises StoreError."""
    with database.noting() as connection:
        statement = events.update().where(events.c.id == event.id, events.c.delivered_at.is_(None))
        connection.execute(statement.values(next_attempt_at=again_at, last_answer=said))


def hasten(database: Database, now: int, claimed_for: int) -> None:
    """Makes due what waits longer than anybody's claim does. Raises StoreError."""
    with database.noting() as connection:
        late = events.c.next_attempt_at > now + claimed_for
        connection.execute(events.update().where(late).values(next_attempt_at=now))


def list_events(database: Database, *, limit: int, undelivered_only: bool = False) -> list[Event]:
    """The newest, the newest first. Raises StoreError."""
    query = select(events).order_by(events.c.id.desc()).limit(limit)
    if undelivered_only:
        query = query.where(events.c.next_attempt_at.is_not(None))
    with database.reading() as connection:
        return [Event(**row) for row in connection.execute(query).mappings()]
