"""Admit, lease, record, settle: what every metered call goes through, as one async context manager."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from proxy.billing import charge, estimates, holds
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import RowRefused
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord, to_usd
from proxy.billing.unpriced import Unpriced
from proxy.errors import CallerErred, Outcome, ProxyRefused, Reason, Refusal, Sent, UpstreamFailed
from proxy.gateway import limiting
from proxy.gateway.client import Client
from proxy.gateway.in_flight import InFlight
from proxy.gateway.limiting import Applying, Limits
from proxy.gateway.meter import Meter
from proxy.gemini import headers
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from proxy.gemini.reading import Reading
from proxy.limits.interface import Hold
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keys import Tenant
from proxy.upstreams.transport import Response

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

SERVICE_TIER = b"x-gemini-service-tier"
FOR_BUDGETS = "there is a budget for such calls"


class Weigher:
    """What all weighings share."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        limits: Limits,
        book: PriceBook,
        upstream: str,
        days: Days,
        metrics: Metrics,
        unpriced: Unpriced,
        refuse_unpriced: bool,
        hold_worst: bool,
        now: Callable[[], int],
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.ledger = ledger
        self.limits = limits
        self.book = book
        self.upstream = upstream
        self.days = days
        self.metrics = metrics
        self.refuse_unpriced = refuse_unpriced
        self.hold_worst = hold_worst
        self.now = now
        self.monotonic = monotonic
        self.new_id = new_id
        self.unpriced = unpriced

    def authorize(self, call: Call, tenant: Tenant) -> None:
        """Refuses what is known to be refused before its body is taken in. Raises ProxyRefused.

        That is a model that has no price, where the operator wants that or there is a budget, and whoever is over a
        limit already.
        """
        if call.operation.metered:
            budgeted = self.limits.applying(tenant, call.model).budgeted
            if (self.refuse_unpriced or budgeted) and not self.book.knows(call.model):
                why = "the operator serves priced models only" if self.refuse_unpriced else FOR_BUDGETS
                raise _unpriced(call.model, why)
        self.limits.refuse_known(call, tenant)

    def bounds(self, call: Call, tenant: Tenant) -> bool:
        """Whether it must be known of a call's body what it can cost at most."""
        return self.hold_worst and call.operation.metered and self.limits.applying(tenant, call.model).money

    def weigh(
        self, call: Call, tenant: Tenant, client: Client, facts: BodyFacts, request_bytes: int
    ) -> Weighing | Unweighed:
        """The scales for one call: entered before it goes up. A free operation has none."""
        if not call.operation.metered:
            return Unweighed(self.limits.free_calls, tenant)
        return self._weigh(call, tenant, client, facts, request_bytes)

    def _weigh(self, call: Call, tenant: Tenant, client: Client, facts: BodyFacts, request_bytes: int) -> Weighing:
        started_at = self.now()
        record = UsageRecord(
            record_id=self.new_id(),
            request_id=client.request_id,
            started_at=started_at,
            project=tenant.project,
            key_id=tenant.key_id,
            key_name=tenant.key_name,
            upstream=self.upstream,
            operation=call.operation.name,
            model=call.model,
            model_asked=call.model,
            period=self.days.name(started_at),
            request_bytes=request_bytes,
        )
        quantities = charge.charge_estimate(record, facts, self.book)
        applying, tokens = self.limits.applying(tenant, call.model), estimates.prompt_tokens(quantities)
        usd = self._usd(record, facts, applying) if applying.money else 0
        images = estimates.images(facts, call.model, quantities)
        return Weighing(self, record, client, facts, limiting.holds(applying, tokens, images, usd))

    def _usd(self, record: UsageRecord, facts: BodyFacts, applying: Applying) -> int:
        """What budgets hold of a call, in nano-dollars. Raises ProxyRefused, CallerErred."""
        usd = record.cost_usd
        if self.hold_worst and facts.bounds is not None:
            tier = "priority" if facts.bounds.asks_tier else None
            table = self.book.rates_at(record.model, record.started_at, tier)
            try:
                if table is not None and "input_text" in table.rates:
                    # An estimate may be more: it knows no cap, and the call is billed at it if it breaks off.
                    usd = max(usd or 0, holds.worst(facts.bounds, record.operation, table, facts.image_size))
            except holds.Unbounded as unbounded:
                if applying.budgeted:
                    message = f"What this request costs has no bound, and its budget must not be overrun. {unbounded}"
                    raise CallerErred(Reason.UNMETERABLE_PARAMETER, message) from None
        if usd is None and applying.budgeted:
            raise _unpriced(record.model, FOR_BUDGETS)
        return usd or 0


def _unpriced(model: str, why: str) -> ProxyRefused:
    return ProxyRefused(
        Reason.MODEL_UNPRICED,
        f"The model {model} has no price here, and {why}. Ask for another model, or have a price set for this one.",
    )


class Weighing:
    """One metered call on the scales. Entered before the call goes up; left when its record is durable.

    Left by an exception, it writes down what is known: nothing where nothing went up, the estimate or the last usage
    seen where the upstream may have worked for us.
    """

    def __init__(
        self, weigher: Weigher, record: UsageRecord, client: Client, facts: BodyFacts, holds: list[Hold]
    ) -> None:
        self._weigher = weigher
        self._record = record
        self._client = client
        self._facts = facts
        self._holds = holds
        self._meter: Meter | None = None
        self._went_up = False
        self._settling = False

    async def __aenter__(self) -> Self:
        """Reserves, then commits the lease. Raises RateLimited, ProxyRefused LIMITER_ or LEDGER_UNAVAILABLE."""
        record, weigher = self._record, self._weigher
        if self._holds:
            await weigher.limits.reserve(record.record_id, record.period, self._holds)
        try:
            await weigher.ledger.open_lease(record)
        except BaseException:
            self._cancel()
            raise
        return self

    def goes_up(self) -> None:
        """The request's first byte is about to be written: from here on the call may cost money."""
        self._went_up = True

    def answered(self, response: Response, first_byte_s: float) -> Meter:
        """The response's head is there: whatever passes from here on is put on the meter."""
        for name, value in response.headers:
            if name == SERVICE_TIER:
                self._record.service_tier = value.decode("latin-1")
        self._record.http_status = response.status
        self._record.first_byte_ms = int(first_byte_s * 1000)
        several = self._facts.tools or self._facts.candidates > 1
        self._meter = Meter(self._client.framing, headers.coding(response.headers), grounding=several)
        return self._meter

    async def settle(self, outcome: Outcome, *, complete: bool = True) -> None:
        """Writes the record; on return it is durable. Only the first outcome counts."""
        if self._settling:
            return
        self._settling = True
        weigher, record, estimate = self._weigher, self._record, copy.copy(self._record)
        try:
            quantities = self._weigh(outcome, complete)
            await weigher.ledger.write(record)
        except (ArithmeticError, LookupError, TypeError, ValueError, RowRefused):
            # What the response says can't be priced or written: the call is on the bill all the same.
            log.exception("record_unwritable", request_id=estimate.request_id, billed="by estimate")
            record, quantities = self._finished(estimate, outcome), {}
            await weigher.ledger.write(record)
        finally:  # also for who is cancelled while the disk is slow: else its place would be taken for ever
            weigher.limits.settle(record)
        self._tell_exceeded(record)
        if record.cost_usd is None:
            weigher.unpriced.tell(record)
        weigher.metrics.weighed(record.project, record.model, quantities, record.images, record.cost_usd)

    def _cancel(self) -> None:
        """Nothing went up: nothing was used."""
        if self._holds:
            self._weigher.limits.cancel(self._record.record_id)

    def _weigh(self, outcome: Outcome, complete: bool) -> dict[str, int]:
        """Completes the record by what the meter saw. Returns the quantities."""
        record, quantities = self._record, {}
        if outcome is Outcome.UPSTREAM_ERROR:
            charge.charge_nothing(record)
        elif self._meter is not None:
            reading = self._meter.finish(complete)
            quantities = charge.charge_reading(record, reading, self._facts.image_size, self._weigher.book)
            if reading.errored:
                outcome = Outcome.TRUNCATED
            elif complete and (not quantities or reading.unseen):
                self._tell_missing(reading)
        if outcome is Outcome.TRUNCATED:
            record.estimated = True
        self._finished(record, outcome)
        return quantities

    def _finished(self, record: UsageRecord, outcome: Outcome) -> UsageRecord:
        if self._meter is not None:
            record.response_bytes = self._meter.seen
        record.outcome = outcome
        record.finished_at = self._weigher.now()
        record.duration_ms = int((self._weigher.monotonic() - self._client.began) * 1000)
        return record

    def _tell_exceeded(self, record: UsageRecord) -> None:
        """A call cost more than it can: what is assumed of the worst is wrong, and a budget may have been overrun."""
        if self._facts.bounds is None:
            return
        held = max((hold.amount for hold in self._holds if hold.counter.per), default=0)
        if (record.cost_usd or 0) > held:
            log.error(
                "hold_exceeded",
                request_id=record.request_id,
                model=record.model,
                held_usd=to_usd(held),
                cost_usd=to_usd(record.cost_usd or 0),
            )

    def _tell_missing(self, reading: Reading) -> None:
        """A whole response without a usage that could be found: somebody should look at why."""
        record = self._record
        self._weigher.metrics.usage_missing.labels(record.operation).inc()
        log.warning(
            "usage_missing",
            request_id=record.request_id,
            operation=record.operation,
            model=record.model,
            unreadable=reading.unreadable,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._settling or error is None:
            return
        outcome = self._outcome(error)
        if outcome is None:
            self._weigher.ledger.drop_lease(self._record.record_id, self._cancel)
        else:
            await self.settle(outcome, complete=False)

    def _outcome(self, error: BaseException) -> Outcome | None:
        """What became of a call that ended in an error; None where nothing had gone up."""
        if not self._went_up:
            return None
        if isinstance(error, asyncio.CancelledError) and self._client.gone:
            return Outcome.TRUNCATED  # it was outlived for as long as it may be
        if not isinstance(error, Refusal):
            return Outcome.UNSETTLED
        if self._meter is not None:
            return Outcome.TRUNCATED
        sent = error.sent if isinstance(error, UpstreamFailed) else Sent.PART
        return {Sent.NOTHING: None, Sent.PART: Outcome.UPSTREAM_ERROR, Sent.WHOLE: Outcome.TRUNCATED}[sent]


class Unweighed:
    """A free operation passes the scales without being weighed: no lease, no record, nothing on the meter."""

    def __init__(self, in_flight: InFlight, tenant: Tenant) -> None:
        self._in_flight = in_flight
        self._tenant = tenant

    async def __aenter__(self) -> Self:
        """Raises RateLimited where the key has too many such calls in flight."""
        self._in_flight.begin(self._tenant)
        return self

    def goes_up(self) -> None:
        pass

    def answered(self, response: Response, first_byte_s: float) -> Self:
        return self

    async def feed(self, piece: bytes) -> None:
        pass

    async def settle(self, outcome: Outcome) -> None:
        pass

    async def __aexit__(self, *error: object) -> None:
        self._in_flight.end(self._tenant)
