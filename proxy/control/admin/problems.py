"""What goes wrong in the admin API, told as application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
DOCS = "/docs/admin-api#"
"""`type` is this and the problem's name: a heading of docs/admin-api.md."""


class Kind(Enum):
    """Each kind of problem: its name, a word of the contract; the HTTP status that it travels under; its title."""

    BAD_REQUEST = "bad-request", 400, "The body can't be read"
    UNAUTHORIZED = "unauthorized", 401, "The admin token is needed"
    FORBIDDEN_ORIGIN = "forbidden-origin", 403, "Not for web pages of another origin"
    NOT_FOUND = "not-found", 404, "There is no such thing"
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "This path doesn't take this method"
    CONFLICT = "conflict", 409, "The id is another one's"
    TOO_LARGE = "too-large", 413, "The body is too large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "The body isn't JSON"
    INVALID = "invalid", 422, "The body asks for what can't be done"
    INTERNAL = "internal", 500, "The server made a mistake"
    UNAVAILABLE = "unavailable", 503, "It can't be done now"

    def __init__(self, word: str, http: int, title: str) -> None:
        self.word = word
        self.http = http
        self.title = title


class Fault(NamedTuple):
    """What is wrong with one field of a body."""

    field: str
    message: str


class Problem(Exception):
    """A request that isn't done. `detail` says what happened and what to do; no text of it may hold a secret."""

    def __init__(self, kind: Kind, detail: str, faults: Sequence[Fault] = (), headers: Mapping[str, str] = {}) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = headers

    def response(self) -> JSONResponse:
        told: dict[str, object] = {
            "type": DOCS + self.kind.word,
            "title": self.kind.title,
            "status": self.kind.http,
            "detail": self.detail,
        }
        if self.faults:
            told["errors"] = [fault._asdict() for fault in self.faults]
        return JSONResponse(told, self.kind.http, self.headers, MEDIA_TYPE)


def invalid(*faults: Fault) -> Problem:
    """A body that can be read and not be done: what is wrong with each field."""
    return Problem(Kind.INVALID, "; ".join(f"{fault.field}: {fault.message}" for fault in faults), faults)
