"""Where a client's key may stand, and the one credential that goes up in its place."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from proxy.errors import CallerErred, Reason
from proxy.gemini.hints import hint
from proxy.gemini.status import API_KEY_MISSING

CREDENTIAL_HEADERS = frozenset({b"authorization", b"x-goog-api-key", b"x-api-key"})
"""Headers that may carry a client's key. None of them crosses."""

_KEY_PARAMETERS = frozenset({b"key", b"$key"})
_TOKEN_PARAMETERS = frozenset({b"access_token", b"oauth_token"})

CREDENTIAL_PARAMETERS = _KEY_PARAMETERS | _TOKEN_PARAMETERS
"""Query parameters, percent-decoded, that Google reads as credentials. None of them crosses.
https://docs.cloud.google.com/apis/docs/system-parameters"""

_GOOGLES = re.compile(r"AIza[A-Za-z0-9_-]{30,40}|(?:AQ|ya29)\.[A-Za-z0-9._-]{16,}")
_SEND_A_KEY = "Send a key of this proxy, and nothing else, in the header x-goog-api-key."


def may_hold_credential(query: bytes) -> bool:
    """False where a query can't: every credential's name has a k in it, unless a percent sign hides it."""
    return b"k" in query or b"%" in query


def parameter_name(piece: bytes) -> bytes:
    """The percent-decoded name of one `name=value` piece of a query."""
    return unquote_to_bytes(piece.partition(b"=")[0])


def is_googles(key: str) -> bool:
    """Whether a key looks as those do that Google gives out."""
    return _GOOGLES.fullmatch(key) is not None


def client_key(headers: list[tuple[bytes, bytes]], query: bytes) -> str:
    """The key that a client sent. Header names are lower case; `query` has the bounds that `calls.parse` puts on it.

    Empty values count as absent: they are variables that nobody set. Raises CallerErred: API_KEY_MISSING,
    CREDENTIALS_CONFLICT where two different ones were sent, API_KEY_INVALID where what was sent can't be a key.
    """
    key = ""
    for name, value in headers:
        if name in CREDENTIAL_HEADERS and (sent := _from_header(name, value)):
            key = _one_of(key, sent)
    if not may_hold_credential(query):
        if key:
            return key
        raise _missing(headers)
    return _with_query(key, query, headers)


def upstream_credential(auth: str, api_key: str) -> tuple[bytes, bytes]:
    """The header that carries the operator's key: `auth` is "x-goog-api-key" or "bearer".

    Raises ValueError, without the key in it, for another `auth` and for a key that no header can carry.
    """
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("An upstream's API key is printable ASCII without spaces; this one is not.")
    if auth == "x-goog-api-key":
        return b"x-goog-api-key", api_key.encode("ascii")
    if auth == "bearer":
        return b"authorization", b"Bearer " + api_key.encode("ascii")
    raise ValueError('An upstream\'s auth is "x-goog-api-key" or "bearer".')


def _from_header(name: bytes, value: bytes) -> str:
    text = value.decode("latin-1").strip()
    if name != b"authorization" or not text:
        return text
    scheme, *key = text.split(None, 1)
    if scheme.lower() != "bearer":
        raise CallerErred(
            Reason.API_KEY_INVALID,
            f"The Authorization header holds something other than 'Bearer KEY'. {_SEND_A_KEY}",
        )
    return key[0] if key else ""


def _missing(headers: list[tuple[bytes, bytes]], *, empty: bool = False) -> CallerErred:
    """`empty`: the query has a place for a key, and nothing in it."""
    empty = empty or any(name in CREDENTIAL_HEADERS for name, _ in headers)
    return CallerErred(Reason.API_KEY_MISSING, API_KEY_MISSING, hint("empty-key" if empty else "no-key"))


def _with_query(key: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> str:
    token, empty = "", False
    for piece in query.split(b"&"):
        name = parameter_name(piece)
        if name in CREDENTIAL_PARAMETERS:
            value = unquote_to_bytes(piece.partition(b"=")[2]).decode("latin-1").strip()
            empty = empty or not value
            if value and name in _KEY_PARAMETERS:
                key = _one_of(key, value)
            elif value:
                token = value
    if token and token != key:
        # It is an OAuth credential by its name, so it is never taken for a key; beside one it is a second credential.
        if key:
            _one_of(key, token)
        raise CallerErred(
            Reason.API_KEY_INVALID,
            f"access_token and oauth_token carry OAuth credentials, which are not taken here. {_SEND_A_KEY}",
        )
    if not key:
        raise _missing(headers, empty=empty)
    return key


def _one_of(known: str, sent: str) -> str:
    if known and known != sent:
        raise CallerErred(
            Reason.CREDENTIALS_CONFLICT,
            f"Two different credentials were sent (Authorization, x-goog-api-key, x-api-key and ?key= are read). "
            f"{_SEND_A_KEY}",
            hint("two-keys") if is_googles(known) != is_googles(sent) else None,
        )
    return sent
