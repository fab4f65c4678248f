"""Who may use the admin API: whoever brings the admin token, and isn't a web page."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers

from proxy.control.admin.problems import Kind, Problem
from proxy.telemetry.redaction import shortened

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

LONGEST_PATH = 200
"""Characters of a path that a log line tells."""
WHERE = (
    "Send the header `Authorization: Bearer …` with the admin token: it stands in admin-token in storage.data_dir, "
    "unless the server got another one in WEIGHBRIDGE_ADMIN_TOKEN."
)


class Guarded:
    """An ASGI app that is reached with the admin token only."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            self._check(headers)
        except Problem as problem:
            client = scope.get("client") or ("unknown", 0)
            log.warning(
                "admin_refused", path=shortened(scope["path"], LONGEST_PATH), client=client[0], why=problem.kind.word
            )
            await problem.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        """Raises Problem.

        A page in the operator's browser has no token, and nothing here is known by a cookie, so even one that points
        its own name at this address (DNS rebinding) gets nowhere. Its `Origin` shows it before that.
        """
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise Problem(Kind.FORBIDDEN_ORIGIN, "Web pages of another origin may not use the admin API.")
        given = headers.getlist("authorization")
        if not given:
            raise _unauthorized("There is no admin token in this request.", "")
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not hmac.compare_digest(_bytes(token.strip()), self._token):
            raise _unauthorized("This is not the admin token.", ', error="invalid_token"')


def _bytes(header: str) -> bytes:
    return header.encode("latin-1")


def _unauthorized(what: str, error: str) -> Problem:
    return Problem(
        Kind.UNAUTHORIZED, f"{what} {WHERE}", headers={"WWW-Authenticate": f'Bearer realm="weighbridge"{error}'}
    )
