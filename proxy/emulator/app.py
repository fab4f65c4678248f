"""The emulator as an ASGI application: Google's routes and credentials in front, its own account beside them."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from proxy.emulator import errors, openai, operations, wire
from proxy.emulator.account import Account, Entry, RequestLog, received
from proxy.emulator.models import MODELS
from proxy.emulator.operations import METERED, OPERATIONS, Exchange
from proxy.emulator.pictures import PictureCache

DEFAULT_KEY = "emulator-key"
_PATH = re.compile(r"/(v1|v1beta|v1alpha|v1beta1)/models(?:/([^/:]+)(?::([A-Za-z]+))?)?")
_OPENAI_PATH = re.compile(r"/(v1|v1beta|v1alpha|v1beta1)/openai//?(.+)")
_ID = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_THREAD_FROM = 64 * 1024
_PROMPT_KEPT = 2000


def create_app(
    *,
    keys: Collection[str] = (DEFAULT_KEY,),
    bearer: bool = False,
    clock: Callable[[], float] = time.time,
    seed: int | None = None,
    account: Account | None = None,
    requests_kept: int = 1000,
) -> Starlette:
    """A stand-in for the Gemini API, to be served by uvicorn.

    `keys` are the API keys it accepts; with `bearer` also as `Authorization: Bearer`, as routers of the native surface
    do. `clock` gives Unix seconds, `seed` makes response ids the same each time. `app.state.account` and
    `app.state.received` hold what was billed and the last `requests_kept` requests; both are served under `/emulator/`.
    """
    books = Account() if account is None else account
    requests = RequestLog(requests_kept)
    gemini = Gemini(frozenset(keys), bearer, clock, random.Random(seed), books, requests)  # noqa: S311  ids, not secrets
    app = Starlette(
        routes=[
            Route("/emulator/account", _shown(books), methods=["GET", "DELETE"]),
            Route("/emulator/requests", _shown(requests), methods=["GET", "DELETE"]),
            Mount("/", gemini),
        ]
    )
    app.state.account, app.state.received = books, requests
    return app


class Gemini:
    """Everything outside `/emulator/`."""

    def __init__(
        self,
        keys: frozenset[str],
        bearer: bool,
        clock: Callable[[], float],
        chance: random.Random,
        account: Account,
        requests: RequestLog,
    ) -> None:
        self._keys = keys
        self._bearer = bearer
        self._clock = clock
        self._chance = chance
        self._account = account
        self._requests = requests
        self._pictures = PictureCache()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._clock()
        body, complete = await _body(receive)
        await _in_thread_if(len(body) > _THREAD_FROM, self._remember, scope, body, complete, started)
        if not complete:
            return
        left = asyncio.get_running_loop().create_task(wire.client_left(receive))
        try:
            exchange = self._exchange(scope, body, int(started))
            if exchange is None:
                await _not_found(send)
            else:
                await self._serve(exchange, scope, send, left, started)
        finally:
            left.cancel()

    def _exchange(self, scope: Scope, body: bytes, created: int) -> Exchange | None:
        """The request as far as its line tells; None for what Google has no route for."""
        found = _route(scope["method"], scope["path"])
        if found is None:
            return None
        version, model, verb = found
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        id_ = "".join(self._chance.choices(_ID, k=23))
        streams = verb == "streamGenerateContent"
        return Exchange(id_, version, model, verb, query, "", body, created, streams)

    async def _serve(
        self, exchange: Exchange, scope: Scope, send: Send, left: asyncio.Task[None], started: float
    ) -> None:
        allowed = False
        try:
            exchange.credential = self._credential(exchange, scope["headers"])
            allowed = True
            await self._operate(exchange)
        except errors.ApiError as error:
            operations.fail(exchange, error)
        how = exchange.how
        if how.delay:
            await asyncio.wait([left], timeout=how.delay)
        packed = how.gzip or wire.wants_gzip(scope["headers"])
        if packed:
            await _in_thread_if(sum(map(len, exchange.pieces)) > _THREAD_FROM, _pack, exchange)
        now = self._clock()
        taken = max(0, round((now - started) * 1000))
        head = wire.headers(exchange.content_type, now=now, milliseconds=taken, tier=exchange.tier, gzip=packed)
        if how.echo_key:
            head.append((b"x-emulator-echo", exchange.credential.encode("latin-1")))
        # Before the first byte is sent: whatever a client has of a response, the account has the whole of.
        entry = (
            self._account.add(self._entry(exchange, scope, started))
            if allowed and exchange.verb in METERED | openai.METERED
            else None
        )
        whole = await wire.deliver(send, left, exchange.status, head, exchange.pieces, how)
        if entry is not None:
            self._account.ended(entry, sent_whole=whole)

    async def _operate(self, exchange: Exchange) -> None:
        _check_query(exchange)
        if not exchange.verb:
            (operations.get_model if exchange.model else operations.list_models)(exchange)
            return
        if (operate := openai.OPERATIONS.get(exchange.verb)) is not None:
            await asyncio.to_thread(operate, exchange, self._pictures)
            return
        draws = exchange.model in MODELS and MODELS[exchange.model].draws
        slow = draws or len(exchange.body) > _THREAD_FROM or b"-bytes=" in exchange.body
        await _in_thread_if(slow, OPERATIONS[exchange.verb], exchange, self._pictures)

    def _remember(self, scope: Scope, body: bytes, complete: bool, started: float) -> None:
        self._requests.add(received(scope, body, complete=complete, time=_time(started)))

    def _credential(self, exchange: Exchange, headers: wire.Headers) -> str:
        """The API key. Raises ApiError in Google's words for none, for a wrong one, and for more than one."""
        if exchange.verb in openai.OPERATIONS:
            return self._known(openai.credential(headers, exchange.query))
        found = [value.decode("latin-1") for name, value in headers if name == b"x-goog-api-key"]
        found += [value for name, value in exchange.query if name in ("key", "access_token")]
        tokens = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
        if len(found) + len(tokens) > 1:
            raise errors.keys_conflict()
        if tokens and not self._bearer:
            raise errors.token_unsupported()
        found += [token.removeprefix("Bearer ") for token in tokens]
        if not found or not found[0]:
            raise errors.key_missing()
        return self._known(found[0])

    def _known(self, key: str) -> str:
        if key not in self._keys:
            raise errors.key_invalid()
        return key

    def _entry(self, exchange: Exchange, scope: Scope, started: float) -> Entry:
        return {
            "id": exchange.id,
            "time": _time(started),
            "method": scope["method"],
            "path": scope["path"],
            "operation": exchange.verb,
            "model": exchange.model,
            "prompt": exchange.prompt[:_PROMPT_KEPT],
            "http_status": exchange.status,
        } | exchange.billed


def _route(method: str, path: str) -> tuple[str, str, str] | None:
    """Version, model and operation; empty where the path has none, None for what Google has no route for."""
    if (found := _OPENAI_PATH.fullmatch(path)) is not None:
        named = openai.operation(method, found[2])
        return None if named is None else (found[1], named[1], named[0])
    if (found := _PATH.fullmatch(path)) is None:
        return None
    verb = found[3] or ""
    if method != ("POST" if verb else "GET") or (verb and verb not in OPERATIONS):
        return None
    return found[1], found[2] or "", verb


async def _in_thread_if(slow: bool, work: Callable[..., None], *given: Any) -> None:
    if slow:
        await asyncio.to_thread(work, *given)
    else:
        work(*given)


def _pack(exchange: Exchange) -> None:
    exchange.pieces = wire.compressed(exchange.pieces)


def _check_query(exchange: Exchange) -> None:
    allowed = operations.QUERY if exchange.verb or exchange.model else operations.QUERY | {"pageSize", "pageToken"}
    for name, _ in exchange.query:
        if name not in allowed:
            said = (
                f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                f"Field '{name}' could not be found in request message."
            )
            raise errors.bad_fields([("", said)])
    alt = exchange.asked("alt")
    if alt not in (None, "json") and not (alt == "sse" and exchange.streams):
        raise errors.invalid(f'Invalid value "{alt}" for query parameter alt.')


async def _body(receive: Receive) -> tuple[bytes, bool]:
    """The request body, and whether all of it came."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(pieces), False
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces), True


async def _not_found(send: Send) -> None:
    head = [
        (b"content-type", b"text/html; charset=UTF-8"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-length", b"%d" % len(wire.HTML_404)),
    ]
    await send({"type": "http.response.start", "status": 404, "headers": head})
    await send({"type": "http.response.body", "body": wire.HTML_404})


def _shown(log: RequestLog) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        if request.method == "DELETE":
            log.clear()
            return Response(status_code=204)
        after, limit = request.query_params.get("after", "0"), request.query_params.get("limit", "1000")
        if not (after.isdecimal() and limit.isdecimal() and int(limit)):
            return JSONResponse({"error": "after and limit are whole numbers, limit from 1."}, 400)
        return JSONResponse(log.page(int(after), int(limit)))

    return endpoint


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
