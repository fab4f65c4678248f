"""What is weighed before a call: whether it may be made, what it probably costs, and what of limits that takes."""

from __future__ import annotations

from collections.abc import Callable

from proxy.billing import charge, estimates, holds
from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord
from proxy.billing.unpriced import Unpriced
from proxy.errors import CallerErred, ProxyRefused, Reason
from proxy.gateway import limiting
from proxy.gateway.client import Client
from proxy.gateway.limiting import Applying, Limits
from proxy.gateway.quotas import Quotas
from proxy.gateway.weighing import Unweighed, Weighing
from proxy.gemini import openai_bodies
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keys import Tenant

FOR_BUDGETS = "there is a budget for such calls"


class Weigher:
    """What all weighings share."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        limits: Limits,
        quotas: Quotas,
        book: PriceBook,
        days: Days,
        metrics: Metrics,
        unpriced: Unpriced,
        refuse_unpriced: bool,
        hold_worst: bool,
        drain_after_disconnect_s: float,
        now: Callable[[], int],
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.ledger = ledger
        self.limits = limits
        self.quotas = quotas
        self.book = book
        self.days = days
        self.metrics = metrics
        self.refuse_unpriced = refuse_unpriced
        self.hold_worst = hold_worst
        self.drain_s = drain_after_disconnect_s
        self.now = now
        self.monotonic = monotonic
        self.new_id = new_id
        self.unpriced = unpriced

    def authorize(self, call: Call, tenant: Tenant) -> None:
        """Refuses what is known to be refused before its body is taken in. Raises ProxyRefused.

        That is a model that has no price, where the operator wants that or there is a budget, and whoever is over a
        limit already. A call whose body names the model is asked about twice: without it, and with it.
        """
        if call.operation.metered and call.model:
            if self.needs_price(tenant, call.model) and not self.book.knows(call.model):
                why = "the operator serves priced models only" if self.refuse_unpriced else FOR_BUDGETS
                raise _unpriced(call.model_asked, why)
            if call.operation.name == openai_bodies.CHAT and self.makes_images(call.model):
                raise openai_bodies.pictures_in_chat()
        self.limits.refuse_known(call, tenant)

    def needs_price(self, tenant: Tenant, model: str) -> bool:
        """Whether a model is refused to a tenant where it has no price."""
        return self.refuse_unpriced or self.limits.applying(tenant, model).budgeted

    def bounds(self, call: Call, tenant: Tenant) -> bool:
        """Whether it must be known of a call's body what it can cost at most."""
        if not (self.hold_worst and call.operation.metered):
            return False
        return call.operation.body_names_model or self.limits.applying(tenant, call.model).money

    def makes_images(self, model: str) -> bool:
        """Whether pictures are what a model is for: by its price, or by its name."""
        table = self.book.rates_at(model, self.now())
        return estimates.names_images(model) or (table is not None and table.is_image_model)

    def weigh(
        self, call: Call, tenant: Tenant, client: Client, facts: BodyFacts, request_bytes: int, upstream: str
    ) -> Weighing | Unweighed:
        """The scales for one call: entered before it goes up. A free operation has none.

        `upstream` is where it is to go first.
        """
        if not call.operation.metered:
            return Unweighed(self.limits.free_calls, tenant, client)
        return self._weigh(call, tenant, client, facts, request_bytes, upstream)

    def _weigh(
        self, call: Call, tenant: Tenant, client: Client, facts: BodyFacts, request_bytes: int, upstream: str
    ) -> Weighing:
        started_at = self.now()
        record = UsageRecord(
            record_id=self.new_id(),
            request_id=client.request_id,
            started_at=started_at,
            project=tenant.project,
            key_id=tenant.key_id,
            key_name=tenant.key_name,
            upstream=upstream,
            operation=call.operation.name,
            model=call.model,
            model_asked=call.model_asked,
            period=self.days.name(started_at),
            request_bytes=request_bytes,
        )
        quantities = charge.charge_estimate(record, facts, self.book)
        applying, tokens = self.limits.applying(tenant, call.model), estimates.prompt_tokens(quantities)
        usd = self._usd(record, facts, applying) if applying.money else 0
        images = estimates.images(facts, call.model, quantities)
        of_upstream = tokens, images, record.cost_usd or 0
        return Weighing(self, record, client, facts, limiting.holds(applying, tokens, images, usd), of_upstream)

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
            raise _unpriced(record.model_asked, FOR_BUDGETS)
        return usd or 0


def _unpriced(model: str, why: str) -> ProxyRefused:
    return ProxyRefused(
        Reason.MODEL_UNPRICED,
        f"The model {model} has no price here, and {why}. Ask for another model, or have a price set for this one.",
    )
