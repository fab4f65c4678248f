"""What happens that others are to know: budgets that are used up by half, by four fifths, wholly. Log, metric, webhook.

Beside the calls, never in their way: every few seconds it looks at what is used of each budget, notes what is new in
weighbridge.db, and sends what isn't delivered yet. What is noted there survives the process; what was sent and not
written down as delivered is sent again, under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from proxy.billing.records import to_rfc3339
from proxy.config.schema import Events as Settings
from proxy.control import event_table
from proxy.control.again import again_and_again
from proxy.control.event_table import Event
from proxy.control.thresholds import BudgetUse, crossed, ratios
from proxy.control.webhook import Answer, Webhook
from proxy.store.database import Database
from proxy.telemetry.metrics import Metrics

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

LOOKS_EVERY_S = 5.0
NOTED_AT_ONCE = 50
CLAIMED_S = 30
"""How long an event is its sender's: longer than an attempt takes."""
FIRST_DELAY_S, LONGEST_DELAY_S = 5, 3600
S = 1_000_000


def make(kind: str, data: dict[str, Any], once: str, at: int, new_id: str, *, send: bool = True) -> Event:
    """An event of any kind. `at` is now, in Unix microseconds; `send`: somebody is to be told of it."""
    event_id = f"evt_{new_id}"
    told = {"id": event_id, "type": kind, "created_at": to_rfc3339(at), "data": data}
    body = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return Event(event_id, kind, at, once, body, next_attempt_at=at if send else None)


def delay_s(attempts: int) -> int:
    """How long to wait after so many attempts: twice as long each time, at last an hour each time."""
    return int(min(FIRST_DELAY_S * 2 ** min(attempts - 1, 20), LONGEST_DELAY_S))


class Events:
    """Looks, notes and sends, for ever. Used on one event loop; the database in threads."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        used: Callable[[], Awaitable[Sequence[BudgetUse]]],
        metrics: Metrics,
        *,
        now_us: Callable[[], int],
        new_id: Callable[[], str],
        looks_every_s: float = LOOKS_EVERY_S,
    ) -> None:
        """`used` tells what is used of each budget now."""
        self._database = database
        self._settings = settings
        self._used = used
        self._metrics = metrics
        self._now_us = now_us
        self._new_id = new_id
        self._looks_every_s = looks_every_s
        self._noted: frozenset[str] = frozenset()
        self._webhook: Webhook | None = None
        self._webhook_of: Settings | None = None
        self._wake = asyncio.Event()

    def configure(self, settings: Settings) -> None:
        """Another receiver, or another secret, from now on."""
        self._settings = settings
        self._wake.set()

    async def watch(self) -> None:
        """Never ends by itself, whatever fails."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(again_and_again(self.look, self._a_while, "budgets aren't looked at"))
                group.create_task(again_and_again(self.deliver, self._until_woken, "events aren't delivered"))
        finally:
            if self._webhook is not None:
                await self._webhook.aclose()

    async def _a_while(self) -> None:
        await asyncio.sleep(self._looks_every_s)

    async def _until_woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._looks_every_s):
                await self._wake.wait()
        self._wake.clear()

    async def look(self) -> None:
        """One look: metric, and what is new noted and logged. Raises what `used` raises, and StoreError."""
        uses = await self._used()
        # In a thread: a thousand projects, or a hundred thousand keys, may have budgets.
        reached, new = await asyncio.to_thread(self._held_against, uses)
        now, send = self._now_us(), bool(self._settings.webhook_url)
        for begin in range(0, len(new), NOTED_AT_ONCE):
            some = new[begin : begin + NOTED_AT_ONCE]
            events = [make("budget.threshold", data, once, now, self._new_id(), send=send) for once, data in some]
            for event in await asyncio.to_thread(event_table.note, self._database, events):
                log.warning("budget_threshold", event_id=event.id, **json.loads(event.body)["data"])
            self._wake.set()
        self._noted = reached

    def _held_against(self, uses: Sequence[BudgetUse]) -> tuple[frozenset[str], list[tuple[str, dict[str, Any]]]]:
        """Which thresholds are reached, and what is to be told of those that aren't noted."""
        self._metrics.budgets_used(ratios(uses))
        reached = list(crossed(uses))
        new = [(once, data) for once, data in reached if once not in self._noted]
        return frozenset(once for once, _ in reached), new

    async def deliver(self) -> None:
        """Sends what is due, the oldest first. Raises StoreError.

        While the receiver fails, later events wait behind the one that it failed at, so that they keep their order. One
        that it alone refuses (a 4xx) holds up no other.
        """
        webhook = await self._receiver()
        if webhook is None:
            return
        for event in await asyncio.to_thread(event_table.undelivered, self._database):
            due = _is_due(event, self._now_us())
            answer = await self._attempt(webhook, event) if due else _last(event)
            if not answer.lets_others_pass:
                break

    async def _receiver(self) -> Webhook | None:
        """The receiver of the settings in force. A new one is told at once what others haven't taken."""
        settings = self._settings
        if settings == self._webhook_of:
            return self._webhook
        former, self._webhook = self._webhook, None
        if former is not None:
            await former.aclose()
        if settings.webhook_url and settings.webhook_secret is not None:
            await asyncio.to_thread(event_table.hasten, self._database, self._now_us(), CLAIMED_S * S)
            self._webhook = Webhook(settings.webhook_url, settings.webhook_secret.get_secret_value())
        self._webhook_of = settings
        return self._webhook

    async def _attempt(self, webhook: Webhook, event: Event) -> Answer:
        now = self._now_us()
        if not await asyncio.to_thread(event_table.claim, self._database, event, now + CLAIMED_S * S):
            return Answer(None, "another process sends it")
        answer = await webhook.send(event.id, event.body.encode(), now // S)
        attempts, now = event.attempts + 1, self._now_us()
        if answer.taken:
            await asyncio.to_thread(event_table.delivered, self._database, event, now, answer.said)
            log.info("event_delivered", event_id=event.id, type=event.type, attempts=attempts, to=webhook.host)
            return answer
        again_s = max(delay_s(attempts), answer.retry_after_s)
        await asyncio.to_thread(event_table.failed, self._database, event, now + again_s * S, answer.said)
        told = {"event_id": event.id, "type": event.type, "attempts": attempts, "to": webhook.host, "why": answer.said}
        (log.error if again_s == LONGEST_DELAY_S else log.warning)("event_undelivered", **told, again_in_s=again_s)
        return answer


def _is_due(event: Event, now: int) -> bool:
    """Its time has come; or lies farther off than any does, because the clock was set back."""
    at = event.next_attempt_at or 0
    return at <= now or at > now + LONGEST_DELAY_S * S


def _last(event: Event) -> Answer:
    """What came of the last attempt."""
    said = event.last_answer or ""
    return Answer(int(said) if said.isdecimal() else None, said)
