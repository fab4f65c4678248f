"""The gateway door's paths: health, a key's account, OpenAI-shaped images and models, CORS; all else is the relay."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from proxy.gateway.account import PREFIX
from proxy.gateway.images import catalogue, front

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from proxy.gemini.headers import Headers

ALLOW_METHODS = b"GET, POST, OPTIONS"
_OPENAIS = (
    b", openai-organization, openai-project, x-stainless-arch, x-stainless-helper-method, x-stainless-lang, "
    b"x-stainless-os, x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, "
    b"x-stainless-runtime-version, x-stainless-timeout"
)
ALLOW_HEADERS = (
    b"authorization, content-type, x-goog-api-client, x-goog-api-key, x-api-key, x-server-timeout" + _OPENAIS
)
"""What Google's SDK for browsers sends, where else a key may stand, and what openai-node 7 sends (client.js,
buildHeaders)."""
EXPOSE_HEADERS = (
    b"retry-after, x-should-retry, x-weighbridge-request-id, x-weighbridge-refused, x-weighbridge-hint, "
    b"x-gemini-service-tier"
)
"""OpenAI's SDK asks x-should-retry whether to repeat, and pay for, what failed."""


class Gateway:
    """The ASGI app behind the gateway door."""

    def __init__(
        self,
        relay: ASGIApp,
        account: ASGIApp,
        models: ASGIApp,
        images: ASGIApp,
        *,
        ready: Callable[[], bool],
        cors_origins: Collection[str],
    ) -> None:
        self._relay = relay
        self._account = account
        self._models = models
        self._images = images
        self._ready = ready
        self._origins = frozenset(origin.encode() for origin in cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/healthz":
            await answer(send, 200, b"ok\n")
        elif path == "/readyz":
            ready = self._ready()
            await answer(send, 200 if ready else 503, b"ready\n" if ready else b"not ready\n")
        else:
            app = self._app(path)
            origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
            if origin is None:
                await app(scope, receive, send)
            else:
                await self._for_browser(app, scope, receive, send, origin)

    def _app(self, path: str) -> ASGIApp:
        if front.serves(path):
            return self._images
        if path.startswith(PREFIX):
            return self._account
        return self._models if path.startswith(catalogue.PATH) else self._relay

    async def _for_browser(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, origin: bytes) -> None:
        """Adds what a browser must see to let a page of that origin read the answer; answers preflights."""
        allowed = b"*" if b"*" in self._origins else origin if origin in self._origins else None
        cors: Headers = [(b"vary", b"Origin")]
        if allowed is not None:
            cors += [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", EXPOSE_HEADERS)]
        if scope["method"] == "OPTIONS":
            cors += [
                (b"access-control-allow-methods", ALLOW_METHODS),
                (b"access-control-allow-headers", ALLOW_HEADERS),
                (b"access-control-max-age", b"3600"),
            ]
            await answer(send, 204, b"", cors if allowed is not None else cors[:1])
            return

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *cors]
            await send(message)

        await app(scope, receive, send_with_cors)


async def answer(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": (plain if body else []) + (headers or [])})
    await send({"type": "http.response.body", "body": body})
