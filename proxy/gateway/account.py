"""/weighbridge/v1: what a key's own project used, what it may use, and what one call cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

import msgspec
import structlog

from proxy.billing import reports, retention
from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.records import UsageRecord, made_at, to_json, to_rfc3339, to_usd
from proxy.billing.reports import Dimension
from proxy.billing.sources import Source, Sources
from proxy.config.addresses import Network
from proxy.errors import CallerErred, ProxyRefused, Reason, Refusal
from proxy.gateway import in_flight
from proxy.gateway.client import Client, address
from proxy.gateway.ended import Ended
from proxy.gateway.looks import Looks
from proxy.gemini import calls, credentials
from proxy.store.database import StoreError
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")
T = TypeVar("T")
Parameters = Mapping[str, str]

PREFIX = "/weighbridge/"
DIMENSIONS: tuple[Dimension, ...] = ("day", "model", "key", "operation", "tier", "outcome", "hour", "month")
"""What a project's usage is summed by. There is one project, and its upstream is the operator's affair."""
LONGEST_DAYS = 366
LONGEST_DAYS_BY_HOUR = 31
LARGEST_PAGE = 1000
MOST_RECORDS = 1000
"""Of one request. A request has one call, or some; a Live session a turn each."""
LONGEST_WAIT_S = 30
"""Until a question's turn comes. Of a database that doesn't answer, each question before it takes some seconds."""

_ENDPOINT = re.compile(r"/weighbridge/v1/(?:(usage|limits)|(calls)/([^/]{1,100}))/?")
_REQUEST_ID = re.compile(r"[0-9a-f-]{36}")
_NUMBER = re.compile(r"[0-9]{1,7}")
_PAGE = frozenset(("page_size", "page_token"))
_TAKEN = {"usage": _PAGE | {"since", "until", "by"}, "limits": frozenset[str](), "calls": _PAGE}
_HIDDEN = frozenset(("project", "upstream", "attempts"))
"""Of a record: what is the operator's affair, and what stands above."""
_NO_CALL = (
    "No call of this project has this request id. A call stands here once it has been answered in full; refused calls "
    "and free ones, such as countTokens, never do."
)
_TRY_AGAIN = "Try again; calls are not affected."
_SERVED = "GET /weighbridge/v1/usage, /weighbridge/v1/limits and /weighbridge/v1/calls/REQUEST_ID"


class Account:
    """The endpoint behind /weighbridge/: answers a key about its own project, and about no other."""

    def __init__(
        self,
        *,
        sources: Sources,
        keyring: Keyring,
        limits_in_use: Callable[[Tenant], Awaitable[dict[str, Any]]],
        timezone: str,
        metrics: Metrics,
        ended: Ended,
        trusted_proxies: Sequence[Network],
        now: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """`limits_in_use` tells a key's limits and its project's, with what is used of them, as JSON has it."""
        self._sources = sources
        self._keyring = keyring
        self._limits_in_use = limits_in_use
        self._timezone = timezone
        self._metrics = metrics
        self._ended = ended
        self._trusted_proxies = trusted_proxies
        self._now = now
        self._monotonic = monotonic
        self._turns = Looks()
        self._in_flight = in_flight.questions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, send, self._monotonic())
        try:
            endpoint, request_id = _endpoint(scope["method"], scope["path"])
            client.operation = f"weighbridge.{endpoint}"
            asked = _parameters(scope["query_string"], _TAKEN[endpoint])
            tenant = await self._authenticate(scope)
            client.is_of(tenant)
            await _send(client, await self._answer(endpoint, tenant, asked, request_id))
        except Refusal as refusal:
            client.refusal = refusal
            self._metrics.refused(client.project, refusal.reason.word)
            await client.refuse(refusal)
        finally:
            self._ended(client)

    async def _authenticate(self, scope: Scope) -> Tenant:
        """Whose account it is: the key may stand, and be used from, where it may for any call."""
        tenant = await self._keyring.authenticate(credentials.client_key(scope["headers"], scope["query_string"]))
        if tenant.policy.addresses:
            tenant.policy.authorize_address(address(scope, self._trusted_proxies))
        return tenant

    async def _answer(self, endpoint: str, tenant: Tenant, asked: Parameters, request_id: str) -> dict[str, Any]:
        self._in_flight.begin(tenant)
        try:
            if endpoint == "limits":
                return await self._limits_in_use(tenant)
            if endpoint == "calls":
                return await self._read(tenant, lambda: self._call(tenant.project, request_id, asked))
            return await self._read(tenant, lambda: self._usage(tenant.project, asked))
        finally:
            self._in_flight.end(tenant)

    async def _read(self, tenant: Tenant, read: Callable[[], T]) -> T:
        """Reads the ledger in a thread, when it is the project's turn."""
        try:
            async with asyncio.timeout(LONGEST_WAIT_S) as waiting, self._turns.turn(tenant.project):
                waiting.reschedule(None)  # what a reading takes is bounded by its statements
                return await asyncio.to_thread(read)
        except TimeoutError:
            raise ProxyRefused(
                Reason.STORE_UNAVAILABLE, f"Others' questions came first, for {LONGEST_WAIT_S} s. {_TRY_AGAIN}"
            ) from None
        except StoreError as error:
            log.error("ledger_unreadable", why=str(error))
            raise ProxyRefused(
                Reason.STORE_UNAVAILABLE, f"The database of the ledger can't be asked now. {_TRY_AGAIN}"
            ) from None
        except LedgerUnusable as error:
            log.error("ledger_unreadable", why=str(error))
            raise ProxyRefused(Reason.LEDGER_UNAVAILABLE, f"The ledger can't be read now. {_TRY_AGAIN}") from None

    def _usage(self, project: str, asked: Parameters) -> dict[str, Any]:
        by = [word.strip() for word in asked.get("by", "day,model").split(",") if word.strip()]
        if not set(by) <= set(DIMENSIONS) or len(by) != len(set(by)):
            raise _bad(f"by takes these words, each once, with commas between: {', '.join(DIMENSIONS)}.")
        since, until = self._period(asked, by)
        words = cast("list[Dimension]", by)
        rows = reports.report(self._sources.bill(), words, since, until, self._timezone, project)
        page, token = _page(rows, asked)
        return {
            "project": project,
            "by": by,
            "since": _told(since),
            "until": None if until is None else _told(until),
            "timezone": self._timezone,
            "rows": [reports.to_json(row) for row in page],
            "total": reports.to_json(reports.total(rows)),
            "next_page_token": token,
        }

    def _period(self, asked: Parameters, by: Sequence[str]) -> tuple[datetime, datetime | None]:
        """From when to before when: the month so far, unless told otherwise."""
        zone = ZoneInfo(self._timezone)
        now = datetime.fromtimestamp(self._now() / 1e6, zone)
        until = _moment("until", asked["until"], zone) if "until" in asked else None
        since = datetime(now.year, now.month, 1, tzinfo=zone)
        if "since" in asked:
            since = _moment("since", asked["since"], zone)
        longest = LONGEST_DAYS_BY_HOUR if "hour" in by else LONGEST_DAYS
        if (until or now) - since > timedelta(days=longest):
            by_what = " by hour" if "hour" in by else ""
            raise _bad(f"At most {longest} days can be asked for at once{by_what}: ask for less with since and until.")
        return since, until

    def _call(self, project: str, request_id: str, asked: Parameters) -> dict[str, Any]:
        try:
            records, since = _records(self._sources.everywhere(), project, request_id)
        except StoreError:  # a call that has just ended here is told all the same
            records, since = _records(self._sources.files(), project, request_id)
            if not records:
                raise
        if not records:
            gone = f" Calls from before {to_rfc3339(since)[:16]}Z stand in /weighbridge/v1/usage only." if since else ""
            raise CallerErred(Reason.CALL_NOT_FOUND, _NO_CALL + gone)
        costs = [record.cost_usd for record in records]
        page, token = _page(records, asked)
        return {
            "project": project,
            "request_id": request_id,
            "cost_usd": None if None in costs else to_usd(sum(cost or 0 for cost in costs)),
            "estimated": any(record.estimated for record in records),
            "records": [
                {name: value for name, value in to_json(record).items() if name not in _HIDDEN} for record in page
            ],
            "next_page_token": token,
        }


def _records(sources: Sequence[Source], project: str, request_id: str) -> tuple[list[UsageRecord], int]:
    """A request's records, and from when on all of them are there, in Unix microseconds."""
    since = retention.records_since(sources)
    # Of an older request some records may be there, such as a late adjustment: they'd make a sum that is none.
    if not _REQUEST_ID.fullmatch(request_id) or (made_at(request_id) or since) < since:
        return [], since
    return reports.of_request(sources, request_id, project, MOST_RECORDS), since


def _endpoint(method: str, path: str) -> tuple[str, str]:
    """Which endpoint a path leads to, and the request id in it ("" where there is none). Raises CallerErred."""
    found = _ENDPOINT.fullmatch(path)
    if found is None or method != "GET":
        raise CallerErred(Reason.UNKNOWN_OPERATION, f"Nothing is served here. Served are: {_SERVED}.")
    return found[1] or found[2], found[3] or ""


def _parameters(query: bytes, taken: frozenset[str]) -> dict[str, str]:
    """The query's parameters, percent-decoded, without credentials. Raises CallerErred."""
    found: dict[str, str] = {}
    for piece in calls.without_credentials(query).split(b"&"):
        name, value = (unquote_to_bytes(part).decode("utf-8", "replace") for part in piece.partition(b"=")[::2])
        if not piece:
            continue
        if name not in taken:
            raise _bad(f"A parameter is not taken here. Taken are: {', '.join(sorted(taken)) or 'none'}.")
        if name in found:
            raise _bad(f"{name} is given twice. Send it once.")
        found[name] = value
    return found


def _moment(name: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or not 2000 <= found.year <= 2200:
        raise _bad(f"{name} is no time: write 2026-11-01, 2026-11-01T12:00 or 2026-11-01T12:00Z.")
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _told(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _page(rows: Sequence[T], asked: Parameters) -> tuple[Sequence[T], str | None]:
    """A page of the rows, and the token of the next one; None where there is none. Raises CallerErred."""
    size, start = asked.get("page_size", "100"), asked.get("page_token", "0")
    if not _NUMBER.fullmatch(size) or not 1 <= int(size) <= LARGEST_PAGE:
        raise _bad(f"page_size is a whole number from 1 to {LARGEST_PAGE}.")
    if not _NUMBER.fullmatch(start):
        raise _bad("page_token is none of ours: send the next_page_token of the page before.")
    end = int(start) + int(size)
    return rows[int(start) : end], str(end) if end < len(rows) else None


def _bad(message: str) -> CallerErred:
    return CallerErred(Reason.BAD_REQUEST, message)


async def _send(client: Client, answer: dict[str, Any]) -> None:
    body = msgspec.json.encode(answer) + b"\n"
    headers = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await client.start(200, headers)
    await client.end(body)
