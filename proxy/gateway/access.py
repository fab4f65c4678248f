"""The access line: what the log tells of each request when it has ended. One line a request, whoever answered it."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import structlog

from proxy.billing.records import UsageRecord, to_usd
from proxy.errors import Outcome, Refusal
from proxy.gateway.client import REFUSED, Client
from proxy.telemetry.redaction import shortened

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

LONGEST_WHY = 1000
"""Characters: a refusal may repeat what callers sent."""


class Access:
    """Tells of requests by a line `call` each. One for all requests under a configuration."""

    def __init__(self, *, told: bool = True, sample_successes: float = 1.0) -> None:
        """`told`: whether there are such lines at all. `sample_successes`: which part of those that ended well is told,
        0 to 1; what was refused or failed always is."""
        self._told = told
        self._sampled_below = int(sample_successes * 2**32)

    def tell(self, client: Client, seconds: float) -> None:
        """A request has ended, `seconds` after its head came."""
        if not self._told or client.told_of:
            return
        outcome = client.outcome
        well = outcome == Outcome.OK and client.refusal is None and client.status < 400
        if well and not self.samples(client.request_id):
            return
        fields = _asked(client)
        _add_answer(fields, client, outcome)
        fields["ms"] = int(seconds * 1000)
        if client.refusal is not None:
            _add_refusal(fields, client.refusal)
        log.info("call", **fields)

    def tell_refused(self, refusal: Refusal, request_id: str) -> None:
        """What came was refused before it was a request: nothing else is known of it."""
        if not self._told:
            return
        fields: dict[str, Any] = {"request_id": request_id, "status": refusal.http, "outcome": REFUSED}
        _add_refusal(fields, refusal)
        log.info("call", **fields)

    def samples(self, request_id: str) -> bool:
        """Whether a request that ended well is told of: by its id, so that it is the same wherever that is asked."""
        return crc32(request_id.encode()) < self._sampled_below


def _asked(client: Client) -> dict[str, Any]:
    """Who asked for what, as far as it came."""
    fields: dict[str, Any] = {"request_id": client.request_id}
    if client.project:
        fields["project"] = client.project
    if client.key_name:
        fields["key"] = client.key_name
    fields["operation"] = client.operation
    if client.model:
        fields["model"] = client.model
    return fields


def _add_answer(fields: dict[str, Any], client: Client, outcome: str) -> None:
    records = client.records
    upstream = client.upstream
    if len(records) == 1:
        upstream = records[0].upstream
    elif records:
        upstream = ",".join(dict.fromkeys([one.upstream for one in records]))
    if upstream:
        fields["upstream"] = upstream
    if client.status:
        fields["status"] = client.status
    fields["outcome"] = outcome
    if records:
        _add_bill(fields, records)


def _add_bill(fields: dict[str, Any], records: list[UsageRecord]) -> None:
    """What stands in the ledger of it: a request of OpenAI's images may be several calls."""
    taken = given = images = cost = 0
    priced, estimated = True, False
    for record in records:
        for name, (quantity, _) in (record.rates or {}).items():
            if name.startswith("output_"):
                given += quantity
            elif "_" in name:  # `search` is a quantity, too, and no token
                taken += quantity
        images += record.images
        cost += record.cost_usd or 0
        priced = priced and record.cost_usd is not None
        estimated = estimated or record.estimated
    fields["input_tokens"], fields["output_tokens"] = taken, given
    if images:
        fields["images"] = images
    if priced:
        fields["cost_usd"] = to_usd(cost)
    if estimated:
        fields["estimated"] = True
    if (first_byte_ms := records[0].first_byte_ms) is not None:
        fields["first_byte_ms"] = first_byte_ms


def _add_refusal(fields: dict[str, Any], refusal: Refusal) -> None:
    fields["refused"] = refusal.reason.word
    fields["why"] = shortened(refusal.message, LONGEST_WHY)
