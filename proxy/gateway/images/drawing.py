"""The n calls of one request: each a generateContent of its own, exchanged, held, and made a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import structlog

from proxy.billing.records import UsageRecord
from proxy.errors import CallerErred, ProxyRefused, Reason, Refusal
from proxy.gateway.client import Client
from proxy.gateway.images import answers, pictures, translate
from proxy.gateway.images.answers import Failed, Picture
from proxy.gateway.images.fetch import Fetcher
from proxy.gateway.images.held import Held
from proxy.gateway.images.requests import ImageRequest, unescaped
from proxy.gateway.images.together import Seats
from proxy.gateway.images.translate import Drawn
from proxy.gateway.intake import Body, Intake
from proxy.gateway.relay import Relay
from proxy.gemini import exhausted, headers, openai_errors
from proxy.gemini.bodies import SKIMMED_AT_ONCE
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.tenants.keys import Tenant

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

_CROSSING: Headers = [(b"accept-encoding", b"identity"), (b"content-type", b"application/json")]
_HEAD = 64 * 1024
"""Bytes of a picture's base64 in which its width and height are looked for."""
READ_AT_ONCE = 2
"""Large answers: one that lies in a file is in memory while it is read. The interpreter reads but one at a time."""


class Easel:
    """What all drawings under one configuration share."""

    def __init__(self, relay: Relay, intake: Intake, fetcher: Fetcher | None, monotonic: Callable[[], float]) -> None:
        """Without a fetcher, no picture that an upstream answers by URL is fetched."""
        self.relay = relay
        self.intake = intake
        self.fetcher = fetcher
        self.monotonic = monotonic
        self.reading = asyncio.Semaphore(READ_AT_ONCE)


class Drawing:
    """One request's calls."""

    def __init__(
        self,
        easel: Easel,
        seats: Seats,
        tenant: Tenant,
        call: Call,
        body: Body,
        request: ImageRequest,
        held: ExitStack,
        records: list[UsageRecord],
    ) -> None:
        """`held` closes what answers are held in; `records` is where those of all calls come."""
        self._easel = easel
        self._seats = seats
        self._tenant = tenant
        self._call = call
        self._body = body
        self._request = request
        self._held = held
        self._records = records
        self._answers: list[Held] = []

    async def draw(self, number: int) -> Picture | Failed:
        """Makes one of the calls. Raises Refusal, ClientGone."""
        easel = self._easel
        held = Held(self._held.enter_context(easel.intake.room(self._tenant.project)))
        self._answers.append(held)
        client = Client({"extensions": {"weighbridge": self._seats.take()}}, held.send, easel.monotonic())
        client.asks(self._call)
        client.is_of(self._tenant)
        client.records = self._records
        try:
            await easel.relay.exchange(self._call, self._tenant, client, _CROSSING, self._body)
        finally:
            client.stop_outliving()
        made = await self._made(held)
        return made._replace(hint=client.hint) if isinstance(made, Failed) else made

    def let_go(self) -> None:
        """Of the answers that lie in files, nothing is in memory any more that isn't needed again."""
        for held in self._answers:
            held.let_go()

    async def _made(self, held: Held) -> Picture | Failed:
        try:
            content = await asyncio.to_thread(held.content) if headers.coding(held.headers) else held.content()
        except Refusal as error:
            return Failed.of(error)._replace(paid=held.status == 200)
        if held.status != 200:
            return _error(held.status, content)
        if held.body.spooled or held.body.length > SKIMMED_AT_ONCE:
            async with self._easel.reading:
                answer = await asyncio.to_thread(translate.read_answer, content)
                held.let_go()
        else:
            answer = translate.read_answer(content)
        if answer is None:
            refusal = ProxyRefused(Reason.UPSTREAM_UNREACHABLE, "The upstream's answer is none of generateContent's.")
            return Failed.of(refusal)._replace(paid=True)
        if not answer.pictures:
            return answers.without_picture(answer.why, answer.text)
        *drafts, drawn = answer.pictures
        try:
            media_type, data, size = await self._finished(drawn)
        except Refusal as error:
            return Failed.of(error)._replace(paid=True)
        kept = [draft.base64 for draft in drafts if not draft.is_url] if self._request.stream else []
        return Picture(media_type, data, answer.text, answer.tokens, size, kept)

    async def _finished(self, drawn: Drawn) -> tuple[str, answers.Piece, tuple[int, int] | None]:
        """The picture in the format that was asked for. Raises CallerErred."""
        media_type, data = drawn.media_type, drawn.base64
        if drawn.is_url:
            media_type, data = await self._fetched(data)
        asked, compression = self._request.output_format, self._request.output_compression
        if asked and (f"image/{asked}" != media_type or compression is not None):
            try:
                converted = await pictures.in_thread(_converted, data, asked, compression)
            except pictures.Unsound as unsound:
                # It is paid for: as it is, it is worth more than an error.
                log.warning("picture_not_converted", to=asked, why=str(unsound))
            else:
                media_type, data = f"image/{asked}", memoryview(converted)
        found = pictures.dimensions(bytes(data[1:_HEAD]))
        return media_type, data, found and found[:2]

    async def _fetched(self, data: memoryview) -> tuple[str, memoryview]:
        """The picture that an upstream answered by URL, as some resellers do. Raises CallerErred."""
        if self._easel.fetcher is None:
            raise ProxyRefused(
                Reason.UPSTREAM_UNREACHABLE,
                "The upstream answered with the picture's URL in place of the picture, and this server fetches none "
                "(images.fetch_urls). Use the native route, which passes the URL on, or have fetching switched on.",
            )
        try:
            content, media_type = await self._easel.fetcher.fetch(_string(data))
        except CallerErred as error:
            what = "The upstream answered with the picture's URL, and that could not be fetched."
            raise ProxyRefused(Reason.UPSTREAM_UNREACHABLE, f"{what} {error.message}") from None
        encoded = await asyncio.to_thread(pictures.to_base64, content)
        return media_type, memoryview(b'"' + encoded + b'"')


def _string(data: memoryview) -> str:
    """What a JSON string says. What isn't UTF-8 in it is replaced: then it is neither base64 nor a URL that leads."""
    return str(msgspec.json.decode(bytes(data).decode("utf-8", "replace")))


def _converted(data: memoryview, to: str, compression: int | None) -> bytes:
    """As a JSON string, of one. Raises Unsound."""
    return b'"' + pictures.convert(_text(data), to, compression) + b'"'


def _text(data: memoryview) -> Any:
    """Base64 without the quotes, and without escapes: a slash may have come as \\/. Raises Unsound."""
    inner = data[1:-1]
    try:
        return inner if b"\\" not in bytes(inner) else unescaped(bytes(inner))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise pictures.Unsound("is not base64.") from None


def _error(status: int, content: Any) -> Failed:
    """An upstream's own error, retold."""
    return Failed(status, openai_errors.retold(exhausted.error_of(bytes(content)) or {}, status))
