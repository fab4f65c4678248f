"""What came of the calls that try assumptions, read as the gateway reads what it relays."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx2

from proxy.billing import charge
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import UNPRICED, Priced
from proxy.cli.doctor.assumptions.calls import TrialCall
from proxy.gemini import codings, scanner
from proxy.gemini import usage as usages
from proxy.gemini.reading import Reading
from proxy.gemini.usage import Usage

ANSWERED_WITHIN_S = 300.0
MOST_BYTES = 64 << 20

_SERVICE_TIER = "x-gemini-service-tier"
_EVENT = re.compile(rb"\r?\n\r?\n")


class Answer(NamedTuple):
    """What came of a call, read as the gateway reads it."""

    call: TrialCall
    status: int
    """0 where nothing was answered."""
    problem: str
    """Why there is nothing to learn from it; empty where there is."""
    body: bytes
    documents: tuple[bytes, ...] = ()
    """The events of a stream; of a single response, itself."""
    tier: str | None = None
    """What the header says."""
    reading: Reading | None = None
    usage: Usage | None = None
    quantities: Mapping[str, int] = {}
    priced: Priced = UNPRICED
    headers: Mapping[str, str] = {}


def make(call: TrialCall, client: httpx2.Client, base_url: str, book: PriceBook, now: Callable[[], int]) -> Answer:
    """Makes the call. Raises nothing that the network or the upstream may do."""
    streams = call.operation == "streamGenerateContent"
    url = f"{base_url}/v1beta/models/{call.model}:{call.operation}"
    started, give_up = now(), time.monotonic() + ANSWERED_WITHIN_S
    body = bytearray()
    try:
        options: dict[str, Any] = {"json": call.body, "headers": {"accept-encoding": "identity"}}
        with client.stream("POST", url, params={"alt": "sse"} if streams else {}, **options) as answer:
            for piece in answer.iter_raw():
                body += piece
                if len(body) > MOST_BYTES or time.monotonic() > give_up:
                    return Answer(call, answer.status_code, "its answer had no end", b"")
            coding = answer.headers.get("content-encoding", "").encode()
            plain = codings.decoded(bytes(body), coding, MOST_BYTES) if coding else bytes(body)
    except (httpx2.HTTPError, ValueError) as error:
        return Answer(call, 0, str(error) or type(error).__name__, b"")
    if answer.status_code != 200:
        return Answer(call, answer.status_code, _message(plain), plain, headers=answer.headers)
    return read(call, plain, answer.headers, book, started)


def read(call: TrialCall, body: bytes, headers: Mapping[str, str], book: PriceBook, at: int) -> Answer:
    """A 200 through the gateway's own reading: what it reports, and what would be charged for it."""
    streams = call.operation == "streamGenerateContent"
    reading = scanner.scan("sse" if streams else "single", body)
    if reading.errored or not reading.complete:
        return Answer(call, 200, "an error in mid-stream, or no JSON", body, headers=headers)
    tier = headers.get(_SERVICE_TIER)
    documents = tuple(_events(body)) if streams else (body,)
    # What countTokens answers bears its figures at the top.
    raw = body if call.operation == "countTokens" else reading.usage
    usage = None if raw is None else usages.parse(raw)
    found = Answer(call, 200, "", body, documents, tier, reading, usage, headers=headers)
    if usage is None or call.operation == "countTokens":
        return found
    table = book.table(reading.model_version, call.model, call.model, usage.service_tier or tier, at)
    quantities = charge.weigh(reading, usage, call.image_size, table)
    return found._replace(quantities=quantities, priced=UNPRICED if table is None else table.price(quantities))


def _events(body: bytes) -> list[bytes]:
    """The documents of a stream of events."""
    lines = ((line for line in event.splitlines() if line.startswith(b"data:")) for event in _EVENT.split(body))
    return [data for event in lines if (data := b"\n".join(line[5:].strip() for line in event))]


def _message(body: bytes) -> str:
    """Google's sentence in an error."""
    try:
        document = json.loads(body)
        error = document[0] if isinstance(document, list) else document
        return " ".join(str(error["error"]["message"]).split())[:300]
    except (ValueError, KeyError, TypeError, IndexError):
        return "no error of Google's"
