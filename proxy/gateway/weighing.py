"""Reserve, lease, record, settle: what every metered call goes through, as one async context manager."""

from __future__ import annotations

import asyncio
import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from proxy.billing import charge, recent, record_hints
from proxy.billing.ledger_errors import RowRefused
from proxy.billing.records import UsageRecord, to_usd
from proxy.errors import Outcome, Refusal, Sent, UpstreamFailed
from proxy.gateway.client import Client
from proxy.gateway.in_flight import InFlight
from proxy.gateway.intake import ClientGone
from proxy.gateway.meter import Meter
from proxy.gemini import headers, openai_reading
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.headers import Headers
from proxy.gemini.reading import Reading
from proxy.gemini.windows import Document
from proxy.limits.interface import Hold
from proxy.tenants.keys import Tenant
from proxy.upstreams.error_answer import ErrorAnswer
from proxy.upstreams.transport import Response

if TYPE_CHECKING:
    from proxy.gateway.weigher import Weigher

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

SERVICE_TIER = b"x-gemini-service-tier"


class Weighing:
    """One metered call on the scales. Entered before the call goes up; left when its record is durable.

    Left by an exception, it writes down what is known: nothing where nothing went up, the estimate or the last usage
    seen where the upstream may have worked for us.
    """

    def __init__(
        self,
        weigher: Weigher,
        record: UsageRecord,
        client: Client,
        facts: BodyFacts,
        holds: list[Hold],
        of_upstream: tuple[int, int, int],
    ) -> None:
        """`holds` is what it takes of the tenant's limits; `of_upstream` what it takes of an upstream's own quota, by
        estimate: prompt tokens, images, nano-dollars."""
        self._weigher = weigher
        self._record = record
        self._client = client
        self.facts = facts
        self._holds = holds
        self._of_upstream = of_upstream
        self._quota_lease = ""
        self._meter: Meter | None = None
        self._attempts: list[dict[str, Any]] = []
        self._went_up = False
        self._refused_by = ""  # the last upstream that did
        self._settling = False

    @property
    def record_id(self) -> str:
        """Of the record that it will leave, if anything goes up."""
        return self._record.record_id

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

    async def begin(self, upstream: str) -> int | None:
        """An attempt is about to be made: takes of the upstream's own quota, and the lease's row says where.

        Until it goes up, a client that leaves ends it. Raises ClientGone, ProxyRefused. See upstreams/attempts.Scales.
        """
        if self._client.gone:
            raise ClientGone
        self._client.outlive(0)
        record, quotas = self._record, self._weigher.quotas
        if quotas.limited(upstream):
            lease_id = f"{record.record_id}.{len(self._attempts) + 1}"  # by which a restart finds it in the record
            wait_ms = await quotas.reserve(lease_id, upstream, record.model, *self._of_upstream)
            if wait_ms is not None:
                return wait_ms
            self._quota_lease = lease_id
        if upstream != record.upstream:
            record.upstream = upstream
            await self._weigher.ledger.open_lease(record)
        return None

    def theirs(self, at: float) -> None:
        self._client.theirs(at)

    def ours(self, at: float) -> None:
        self._client.ours(at)

    def goes_up(self) -> None:
        """The request's first byte is about to be written: from here on the call may cost money.

        So a client that leaves is outlived: Google bills the call whether or not anyone listens. Raises ClientGone.
        """
        if self._client.gone:
            raise ClientGone
        self._client.outlive(self._weigher.drain_s)
        self._went_up = True

    def refused(self, attempt: dict[str, Any]) -> None:
        """The upstream did nothing of what it was asked."""
        self._attempts.append(attempt)
        self._went_up, self._refused_by = False, attempt["upstream"]
        if self._quota_lease:
            self._weigher.quotas.settle(self._quota_lease, 0, 0, 0)
            self._quota_lease = ""

    def failed(self, attempt: dict[str, Any], sent: Sent) -> None:
        """No answer came."""
        self._attempts.append(attempt)
        if sent is Sent.NOTHING:
            self._cancel_quota()

    def answered(self, attempt: dict[str, Any]) -> None:
        """The answer to this attempt is the call's."""
        self._attempts.append(attempt)

    def meter(self, response: Response, first_byte_s: float) -> Meter:
        """What the response passes on its way: its head is there."""
        self._head(response.status, response.headers, first_byte_s)
        several = self.facts.tools or self.facts.candidates > 1
        document = openai_reading.document_of(self._record.operation)
        walked = several and document is Document
        coding = headers.coding(response.headers)
        self._meter = Meter(self._client.framing, coding, grounding=walked, document=document)
        return self._meter

    async def settle_error(self, upstream: str, error: ErrorAnswer, first_byte_s: float) -> None:
        """Google bills nothing that it answers with 400 or more. `upstream` said it: maybe not the last one asked."""
        self._record.upstream = upstream
        self._head(error.status, error.headers, first_byte_s)
        self._record.response_bytes = len(error.body)
        await self.settle(Outcome.UPSTREAM_ERROR)

    def _head(self, status: int, fields: Headers, first_byte_s: float) -> None:
        for name, value in fields:
            if name == SERVICE_TIER:
                self._record.service_tier = value.decode("latin-1")
        self._record.http_status = status
        self._record.first_byte_ms = int(first_byte_s * 1000)

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
            self._settle_quota(record)
        self._client.records.append(record)
        self._tell_exceeded(record)
        if record.cost_usd is None:
            weigher.unpriced.tell(record)
        weigher.metrics.weighed(record.project, record.model, quantities, record.images, record.cost_usd)

    def _cancel(self) -> None:
        """Nothing went up: nothing was used."""
        if self._holds:
            self._weigher.limits.cancel(self._record.record_id)
        self._cancel_quota()

    def _cancel_quota(self) -> None:
        """Nothing of the attempt went up."""
        if self._quota_lease:
            self._weigher.quotas.cancel(self._quota_lease)
            self._quota_lease = ""

    def _settle_quota(self, record: UsageRecord) -> None:
        if not self._went_up:
            self._cancel_quota()
        elif self._quota_lease:
            taken = recent.taken(record)
            self._weigher.quotas.settle(self._quota_lease, taken.get("tpm"), taken.get("ipm"), record.cost_usd)
            self._quota_lease = ""

    def _weigh(self, outcome: Outcome, complete: bool) -> dict[str, int]:
        """Completes the record by what the meter saw. Returns the quantities."""
        record, quantities = self._record, {}
        if outcome is Outcome.UPSTREAM_ERROR:
            charge.charge_nothing(record)
        elif self._meter is not None:
            reading = self._meter.finish(complete)
            book = self._weigher.book
            quantities = charge.charge_reading(record, reading, self.facts.image_size, book)
            told = record_hints.of_charged(record, reading, self.facts, quantities, book)
            self._client.hint = told or self._client.hint
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
        if self._client.hint is not None:
            record.hint = self._client.hint.sentence
        record.attempts = self._attempts or None
        record.outcome = outcome
        record.finished_at = self._weigher.now()
        record.duration_ms = int((self._weigher.monotonic() - self._client.began) * 1000)
        return record

    def _tell_exceeded(self, record: UsageRecord) -> None:
        """A call cost more than it can: what is assumed of the worst is wrong, and a budget may have been overrun."""
        if self.facts.bounds is None:
            return
        held = max((hold.amount for hold in self._holds if hold.counter.per), default=None)
        if held is not None and (record.cost_usd or 0) > held:
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
        self._weigher.metrics.usage_missed(record.operation)
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
        if isinstance(error, Refusal):
            self._client.hears(error)
        outcome = self._outcome(error)
        if outcome is None:
            self._weigher.ledger.drop_lease(self._record.record_id, self._cancel)
        else:
            if not self._went_up:
                self._record.upstream = self._refused_by  # to the next one nothing went
            await self.settle(outcome, complete=False)

    def _outcome(self, error: BaseException) -> Outcome | None:
        """What became of a call that ended in an error; None where nothing had gone up."""
        if not self._went_up:
            return Outcome.UPSTREAM_ERROR if self._refused_by else None
        if isinstance(error, asyncio.CancelledError) and self._client.gone:
            return Outcome.TRUNCATED  # it was outlived for as long as it may be
        if not isinstance(error, Refusal):
            return Outcome.UNSETTLED
        if self._meter is not None:
            return Outcome.TRUNCATED
        sent = error.sent if isinstance(error, UpstreamFailed) else Sent.PART
        nothing = Outcome.UPSTREAM_ERROR if self._refused_by else None
        return {Sent.NOTHING: nothing, Sent.PART: Outcome.UPSTREAM_ERROR, Sent.WHOLE: Outcome.TRUNCATED}[sent]


class Unweighed:
    """A free operation passes the scales without being weighed: no lease, no record, nothing on the meter."""

    record_id = ""
    facts = None

    def __init__(self, in_flight: InFlight, tenant: Tenant, client: Client) -> None:
        self._in_flight = in_flight
        self._tenant = tenant
        self._client = client

    async def __aenter__(self) -> Self:
        """Raises RateLimited where the key has too many such calls in flight."""
        self._in_flight.begin(self._tenant)
        return self

    async def begin(self, upstream: str) -> None:
        """A client that leaves ends it: there is nothing to be outlived for. Raises ClientGone."""
        if self._client.gone:
            raise ClientGone
        self._client.outlive(0)

    def theirs(self, at: float) -> None:
        self._client.theirs(at)

    def ours(self, at: float) -> None:
        self._client.ours(at)

    def goes_up(self) -> None:
        """Raises ClientGone."""
        if self._client.gone:
            raise ClientGone

    def refused(self, attempt: dict[str, Any]) -> None:
        pass

    def failed(self, attempt: dict[str, Any], sent: Sent) -> None:
        pass

    def answered(self, attempt: dict[str, Any]) -> None:
        pass

    def meter(self, response: Response, first_byte_s: float) -> Self:
        return self

    async def settle_error(self, upstream: str, error: ErrorAnswer, first_byte_s: float) -> None:
        pass

    async def feed(self, piece: bytes) -> None:
        pass

    async def settle(self, outcome: Outcome) -> None:
        pass

    async def __aexit__(self, *error: object) -> None:
        self._in_flight.end(self._tenant)
