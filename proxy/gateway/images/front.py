"""POST /v1/images/generations and /v1/images/edits: one request from first byte to last.

The n calls that it makes go through `relay.exchange`, as a native one does: limited, billed and recorded as n.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from proxy.config.schema import Images as Settings
from proxy.errors import CallerErred, Hint, Reason, Refusal
from proxy.gateway.client import Client
from proxy.gateway.images import answers, sizes
from proxy.gateway.images.answers import Failed, Picture, Piece
from proxy.gateway.images.drawing import Drawing, Easel
from proxy.gateway.images.order import Orders
from proxy.gateway.images.requests import ImageRequest, wrong
from proxy.gateway.images.sizes import Shape
from proxy.gateway.images.together import Seats, SideBySide
from proxy.gateway.intake import ClientGone
from proxy.gateway.relay import Relay
from proxy.gemini import calls, hints, image_models
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.gemini.surface import Operation

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from proxy.gateway.cycle import Cycle

GENERATIONS = Operation("images.generate", "POST", "images/generations", body=True)
EDITS = Operation("images.edit", "POST", "images/edits", body=True)
"""What metrics call a request. The calls that it makes stand in the ledger as what they are: generateContent."""

_PATH = re.compile(r"/+(?:openai/+)?(?:v1/+)+images/+([a-z]+)/*")
_OPENAIS = ("gpt-", "dall-e", "chatgpt-")
"""How OpenAI's own models begin, which its tools name by themselves."""
_OPERATIONS = {"generations": GENERATIONS, "edits": EDITS}
_SENT = 256 * 1024
"""Bytes that are sent at once: with TLS they are encrypted on the event loop, and of a file they are in memory."""


def serves(path: str) -> bool:
    """Whether a path is the front's."""
    return "/images/" in path and _PATH.fullmatch(path) is not None


class Images:
    """The endpoint behind the paths of OpenAI's images."""

    def __init__(self, easel: Easel, orders: Orders, settings: Settings, now: Callable[[], int]) -> None:
        """`now` is Unix microseconds."""
        self._easel = easel
        self._orders = orders
        self._settings = settings
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, send, self._easel.monotonic())
        await self._easel.relay.attend(client, scope["raw_path"], self._serve(scope, receive, client))

    async def _serve(self, scope: Scope, receive: Receive, client: Client) -> None:
        operation, relay = _operation(scope["method"], scope["path"]), self._easel.relay
        client.asks(Call(operation, "", b"", "single", ""))
        came: Headers = scope["headers"]
        calls.without_credentials(scope["query_string"])  # its bounds; of its parameters, only a key means anything
        tenant, _ = await relay.authenticate(came, scope["query_string"])
        client.is_of(tenant)
        relay.authorize_address(tenant, scope)
        order = await self._orders.take(tenant.project, came, receive, edits=operation is EDITS)
        request = order.request
        call, shape, said = self._understood(request)
        client.asks(dataclasses.replace(call, operation=operation, framing="sse" if request.stream else "single"))
        relay.authorize(call, tenant, scope)
        with ExitStack() as held:
            body = held.enter_context(await self._orders.native_body(order, tenant.project, shape))
            del order  # its pictures are in the body: they would take memory twice until the last answer
            seats = Seats(cast("Cycle", scope["extensions"]["weighbridge"]))
            drawing = Drawing(self._easel, seats, tenant, call, body, request, held, client.records)
            created = self._now() // 1_000_000
            answering = _Answering(client, request, shape, said, created, drawing.let_go, edits=operation is EDITS)
            await SideBySide(drawing.draw, answering.take).run(request.n)
            await answering.finish(relay)

    def _understood(self, request: ImageRequest) -> tuple[Call, Shape, list[Hint | None]]:
        """The call that brings one picture; what its size and ratio become; what is said of it. Raises CallerErred."""
        chosen = {"": self._settings.default_model, "auto": self._settings.auto_model}
        asked = chosen.get(request.model, request.model)
        call = self._call(asked)
        said: list[Hint | None] = []
        if gone := image_models.retired(call.model):
            said.append(hints.of_retired(call.model, "successor-drew"))
            call = dataclasses.replace(self._call(gone.successor), model_asked=asked)
        if call.model.startswith(_OPENAIS) or not self._easel.relay.makes_images(call.model):
            raise wrong(
                "model",
                f"{asked} makes no pictures. GET /openai/v1/models lists the models that do; "
                "where a tool can't name another, an alias of that name ([[models]]) can stand for one.",
            )
        shape = sizes.shape(request.size, request.aspect_ratio, request.quality, image_models.offers(call.model))
        said += shape.differs
        if request.background == "transparent":
            said.append(hints.hint("no-transparency"))
        if request.unknown:
            said.append(hints.hint("parameters-unknown", names=", ".join(request.unknown)))
        return call, shape, said

    def _call(self, model: str) -> Call:
        return self._easel.relay.parse("POST", f"/v1beta/models/{model}:generateContent".encode(), b"")


def _operation(method: str, path: str) -> Operation:
    found = _PATH.fullmatch(path)
    name = found[1] if found else ""
    if name == "variations":
        raise CallerErred(
            Reason.UNKNOWN_OPERATION,
            "Variations are not served: no Gemini model makes them by itself. Send the picture to "
            "POST /v1/images/edits, with a prompt such as 'another version of this picture'.",
        )
    if name not in _OPERATIONS or method != "POST":
        said = "Served here are POST /v1/images/generations and POST /v1/images/edits."
        raise CallerErred(Reason.UNKNOWN_OPERATION, said)
    return _OPERATIONS[name]


class _Answering:
    """What is answered to one request: as each picture comes where it asked for a stream, else when all have come."""

    def __init__(
        self,
        client: Client,
        request: ImageRequest,
        shape: Shape,
        said: list[Hint | None],
        created: int,
        let_go: Callable[[], None],
        *,
        edits: bool,
    ) -> None:
        """`let_go` is called when a window of a picture was sent."""
        self._client = client
        self._request = request
        self._shape = shape
        self._said = said
        self._created = created
        self._let_go = let_go
        self._edits = edits
        self._pictures: dict[int, Picture] = {}
        self._failures: list[Failed] = []
        self._turn = asyncio.Lock()

    async def take(self, number: int, result: Picture | Failed | Refusal) -> None:
        """What became of one of the calls."""
        if isinstance(result, Refusal):
            self._failures.append(Failed.of(result))
        elif isinstance(result, Failed):
            self._failures.append(result)
        elif self._request.stream:
            events = answers.events(self._created, self._request, self._shape.image_size, result, edits=self._edits)
            async with self._turn:  # one event after the other, however slowly they are read
                if not self._client.started:
                    head = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
                    self._client.hint = hints.together(self._said)
                    await self._client.start(200, head)
                await self._send(events)
        else:
            self._pictures[number] = result

    async def finish(self, relay: Relay) -> None:
        """All have ended. Raises the refusal that all of them came to."""
        client, failures = self._client, self._failures
        if client.gone:
            raise ClientGone
        if client.started:
            await client.end(answers.error_event(answers.most_useful(failures)) if failures else b"")
        elif self._pictures:
            await self._answer()
        else:
            await self._fail(answers.most_useful(failures))
        for failed in failures:
            if failed.refusal is not None:
                relay.refused_one(client, failed.refusal)

    async def _answer(self) -> None:
        pictures = [self._pictures[number] for number in sorted(self._pictures)]
        pieces = answers.as_json(self._created, self._shape.image_size, pictures, self._failures)
        self._client.hint = hints.together([hints.of_partial(len(pictures), self._request.n), *self._said])
        await self._client.start(200, _json(pieces))
        await self._send(pieces[:-1])
        await self._client.end(pieces[-1])

    async def _send(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            for start in range(0, len(piece), _SENT):
                await self._client.send(piece[start : start + _SENT])
                self._let_go()

    async def _fail(self, failed: Failed) -> None:
        paid = any(other.paid for other in self._failures)
        if failed.refusal is not None and not paid:
            raise failed.refusal
        body = answers.error_body(failed)
        self._client.hint = failed.hint or hints.together(self._said)
        fields = _json([body])
        if paid:
            fields.append((b"x-should-retry", b"false"))  # OpenAI's SDKs would repeat, and pay, what may cost money
        await self._client.answer(failed.http, fields, body)


def _json(pieces: list[Piece] | list[bytes]) -> Headers:
    length = sum(len(piece) for piece in pieces)
    return [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % length)]
