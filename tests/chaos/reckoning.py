"""The bill beside the upstream's account: what is lost, there twice, of a wrong amount; and what can't be known."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.billing.records import UsageRecord
from tests.chaos import oracle
from tests.chaos.callers import Seen
from tests.chaos.calls import Call
from tests.chaos.plan import Calls
from tests.chaos.upstream import Served, Upstream

NEVER_UP = (
    *("RATE_LIMITED", "BUDGET_HELD", "BUDGET_EXCEEDED", "LEDGER_UNAVAILABLE", "LIMITER_UNAVAILABLE", "DRAINING"),
    "BAD_REQUEST",
)
"""Refusals after which nothing has gone up. The others are about the upstream itself."""


@dataclass(frozen=True)
class Owed:
    """What a record of a call is to say: one of these outcomes, one of these costs."""

    outcomes: frozenset[str]
    costs: frozenset[int]
    estimated: bool | None
    """None: it may say so, or not."""


@dataclass
class Reckoning:
    """`wrong` is what must be empty: a sentence for each call whose record isn't what it is to be."""

    wrong: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    unsettled: Counter[str] = field(default_factory=Counter)
    """Those of which the ledger can't know what became: by how far the upstream had come with them."""
    nano_dollars: int = 0
    estimated_nano_dollars: int = 0

    def finds(self, kind: str, call: Call, what: object) -> None:
        self.wrong.append(f"{kind}: call {call.number} of {call.key}, {call.verb} of {call.model}: {what}")


def reckon(
    records: Iterable[UsageRecord],
    calls: Calls,
    upstream: Upstream,
    seen: Mapping[int, Seen],
    ended_abruptly: Mapping[int, bool],
) -> Reckoning:
    """`ended_abruptly`: of each process whether it ended so that calls in flight may be unsettled."""
    found, of = Reckoning(), dict[int, UsageRecord]()
    for record in records:
        call = calls.by_print.get((record.key_name, record.request_bytes))
        if call is None:
            found.wrong.append(f"nobody's: {record.record_id} of {record.key_name}, {record.request_bytes} bytes")
        elif call.number in of:
            found.finds("twice", call, (of[call.number].record_id, record.record_id))
        else:
            of[call.number] = record
            _compare(found, record, call, upstream, seen[call.number], ended_abruptly)
    for number, served in upstream.served.items():
        if served.times > 1:
            found.finds("went up twice", served.call, served.times)
        if number not in of:
            found.finds("lost", served.call, f"http {served.status}, whole: {served.whole}")
    for number, client in seen.items():
        _hold(found, calls.by_number[number], client, of.get(number), number in upstream.served)
    return found


def _hold(found: Reckoning, call: Call, client: Seen, record: UsageRecord | None, went_up: bool) -> None:
    """What a client received in full is on the bill; what was refused isn't, and didn't go up."""
    if client.refused in NEVER_UP and (record or went_up):
        found.finds("refused, and all the same", call, (client.refused, record and record.outcome, went_up))
    if call.metered and client.complete and client.status == 200:
        if record is None:
            found.finds("received whole, and lost", call, client)
        elif record.request_id != client.request_id or record.outcome not in ("ok", "truncated"):
            found.finds("received whole, and not so recorded", call, (record.outcome, record.request_id, client))


def _compare(
    found: Reckoning,
    record: UsageRecord,
    call: Call,
    upstream: Upstream,
    client: Seen,
    ended_abruptly: Mapping[int, bool],
) -> None:
    served = upstream.served.get(call.number)
    found.outcomes[record.outcome] += 1
    found.nano_dollars += record.cost_usd or 0
    found.estimated_nano_dollars += (record.cost_usd or 0) if record.estimated else 0
    said = (record.project, record.operation, record.model)
    if said != (call.project, call.verb, call.model):
        found.finds("wrong", call, said)
    guess = _guess(call, record.started_at)
    guesses = {guess}
    if served is not None and served.status == 200:  # by then it is known who serves, and which pictures came
        pictures = record.images if served.entry is None else min(record.images, served.entry["images"])
        guesses |= {_guess(call, record.started_at, tier, pictures) for tier in (None, record.service_tier)}
    if record.outcome == "unsettled":
        if not ended_abruptly.get(client.process) or client.complete:
            found.finds("unsettled for no reason", call, client)
        found.unsettled["never came up" if served is None else "answered whole" if served.whole else "under way"] += 1
        owed = Owed(frozenset({"unsettled"}), frozenset({guess}), True)
    elif served is None:
        if not _in_an_outage(upstream, client):
            found.finds("billed, and never came up", call, record.outcome)
        owed = _unanswered(record, guess)
    else:
        owed = _owed(found, upstream, served, record, client, guesses)
    if record.outcome not in owed.outcomes:
        found.finds("wrong outcome", call, f"{record.outcome}, not {sorted(owed.outcomes)}; {_of(served)}; {client}")
    elif record.cost_usd not in owed.costs or owed.estimated not in (None, record.estimated):
        costs = f"{record.cost_usd} (estimated: {record.estimated}), not {sorted(owed.costs)} ({owed.estimated})"
        found.finds("wrong amount", call, f"{record.outcome}: {costs}; {_of(served)}; {client}; {record.rates}")


def _owed(
    found: Reckoning, upstream: Upstream, served: Served, record: UsageRecord, client: Seen, guesses: set[int]
) -> Owed:
    """Of a call that the upstream knows. `guesses`: what it may be taken for whose usage nobody learned."""
    call, entry = served.call, served.entry
    if not served.status or (served.cut and not served.passed):
        return _unanswered(record, *guesses)
    broke = bool(entry) and "[[error-mid-stream" in entry["prompt"] and call.verb.startswith("stream")
    lost_on_the_way = (
        not broke and record.outcome == "truncated" and not client.complete and _in_an_outage(upstream, client)
    )
    if served.whole and entry is not None and served.status == 200 and not lost_on_the_way:
        if record.response_id != (None if "mbed" in call.verb else entry["id"]):
            return Owed(frozenset({f"that of {entry['id']}"}), frozenset(), False)
        if not (broke or call.spoilt):
            _columns(found, record, call, entry)
        if broke:  # in the midst of it: what comes with its end may not have come
            prices = {
                _price(call, entry["reported"], record.started_at, 0, count, record.images)
                for count in (0, entry["searches"])
            }
            return Owed(frozenset({"truncated"}), frozenset(price for price in prices if price is not None), True)
        price = _price(call, entry["reported"], record.started_at, entry["images"], entry["searches"])
        outcomes = {"ok", "client_gone"} if client.left else {"ok"}
        # A usage that stands before much else may not be the last: then the record says that it isn't sure.
        sure = None if price is not None and call.spoilt else price is None
        prices = {price}
        if call.spoilt:  # then pictures that its usage doesn't count are charged besides
            prices.add(
                _price(call, entry["reported"], record.started_at, entry["images"], entry["searches"], entry["images"])
            )
        return Owed(frozenset(outcomes), frozenset(guesses if price is None else prices - {None}), sure)
    if served.status >= 400:
        return Owed(frozenset({"upstream_error"}), frozenset({0}), False)
    return Owed(frozenset({"truncated"}), _so_far(served, record, guesses, lost_on_the_way), True)


def _columns(found: Reckoning, record: UsageRecord, call: Call, entry: Mapping[str, Any]) -> None:
    """All that the record says of usage is what the upstream reckons to be paid for."""
    for name in ("images", "searches"):
        if getattr(record, name) != entry[name]:
            found.finds("wrong", call, f"{getattr(record, name)} {name}, not {entry[name]}")
    for name, count in entry["usage"].items():
        if (getattr(record, name) or 0 if isinstance(count, int) else getattr(record, name) or {}) != count:
            found.finds("wrong", call, f"{name}: {getattr(record, name)}, not {count}")


def _unanswered(record: UsageRecord, *guesses: int) -> Owed:
    """A request that went up in part costs nothing; of one that went up whole nobody knows."""
    if record.outcome == "upstream_error":
        return Owed(frozenset({"upstream_error"}), frozenset({0}), False)
    return Owed(frozenset({"truncated"}), frozenset(guesses), True)


def _so_far(served: Served, record: UsageRecord, guesses: set[int], lost_on_the_way: bool) -> frozenset[int]:
    """What a response that broke off may come to: a reset may have taken with it some of what was sent."""
    usages = list(_usages(bytes(served.passed)))
    if lost_on_the_way and record.usage:
        usages.append(json.loads(record.usage))
    known = []
    for usage in usages:  # where its details name no picture, those that came are part of its output, or beside it
        prices = {
            _price(served.call, usage, record.started_at, images, record.searches, record.images)
            for images in (0, record.images)
        }
        known.append({price for price in prices if price is not None})
    last = next((prices for prices in reversed(known) if prices), set())
    return frozenset(guesses.union(*known) if served.cut or lost_on_the_way or not last else last)


def _usages(body: bytes) -> Iterator[Any]:
    """That of each event, or element, which stands whole in the beginning of a body."""
    if body[:2] == b"\x1f\x8b":
        body = zlib.decompressobj(31).decompress(body)
    text, decoder = body.decode(errors="replace"), json.JSONDecoder()
    if text.startswith("data:"):
        text += "\n" if text.endswith("\r\n\r") else ""  # which ends an event, too
        text = "[" + ",".join(event[len("data: ") :] for event in text.split("\r\n\r\n")[:-1])
    at = int(text[:1] == "[")
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield value.get("usageMetadata")
        at += len(text[at:]) - len(text[at:].lstrip(" ,\r\n"))


def _price(call: Call, usage: Any, started_at: int, images: int, searches: int, came: int = 0) -> int | None:
    """None where that says nothing: then the estimate stands. `came`: pictures before it broke off, at least."""
    if not usage or not any(value for value in usage.values()):
        return None
    weighed = oracle.reported(usage, call.model, images, call.size)
    if call.model in oracle.IMAGE_TOKENS:
        weighed["image out"] = max(weighed["image out"], came * oracle.IMAGE_TOKENS[call.model][call.size or "1K"])
    return oracle.cost(call.model, usage.get("serviceTier"), started_at, weighed, searches)


def _guess(call: Call, started_at: int, tier: str | None = None, came: int = 0) -> int:
    text = call.length - call.inline
    weighed = oracle.estimated(
        call.model, call.verb, text, int(call.inline > 0), call.candidates, call.most_out, call.size
    )
    if call.model in oracle.IMAGE_TOKENS:
        weighed["image out"] = max(weighed["image out"], came * oracle.IMAGE_TOKENS[call.model][call.size or "1K"])
    return oracle.cost(call.model, tier, started_at, weighed)


def _in_an_outage(upstream: Upstream, client: Seen) -> bool:
    """Whether the upstream was away while a call was under way."""
    return any(not up or client.sent <= up for _, up in upstream.outages)


def _of(served: Served | None) -> str:
    if served is None:
        return "not seen upstream"
    entry = served.entry or {}
    prompt = str(entry.get("prompt")).partition("xxx")[0]
    seen = {name: entry.get(name) for name in ("reported", "images", "searches")}
    passed = f"whole: {served.whole}, cut: {served.cut}, {len(served.passed)} bytes passed"
    return f"http {served.status}, {passed}, {prompt} {seen}"
