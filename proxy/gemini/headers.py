"""What crosses of the headers and what doesn't, both ways; and which bodies are taken at all."""

from __future__ import annotations

from proxy.errors import CallerErred, Reason
from proxy.gemini.credentials import CREDENTIAL_HEADERS

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, values as on the wire, in order."""

# RFC 9110, section 7.6.1, and what proxies have always treated likewise.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)

_FORWARDED_FOR = frozenset(
    {
        b"forwarded",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
    }
)

_OURS_TO_SET = frozenset({b"host", b"content-length", b"expect", b"accept-encoding"})
# Google's gateway counts some of these as credentials beside ours, and refuses the call.
_OF_THE_CLIENT = frozenset(
    {b"cookie", b"x-goog-iam-authorization-token", b"x-goog-user-project", b"openai-organization", b"openai-project"}
)

# They would hide the usage, or make Google do something other than we read.
# https://docs.cloud.google.com/apis/docs/system-parameters
_UNMETERABLE = frozenset(
    {
        b"x-goog-fieldmask",
        b"x-goog-encode-response-if-executable",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"range",
    }
)

_STAYS_BELOW = CREDENTIAL_HEADERS | _HOP_BY_HOP | _FORWARDED_FOR | _OURS_TO_SET | _OF_THE_CLIENT | _UNMETERABLE
_LOOKED_AT = _STAYS_BELOW | {b"accept"}
_STAYS_BELOW_PREFIXES = (b"x-forwarded-", b"x-weighbridge-")

_STAYS_ABOVE = _HOP_BY_HOP | {b"set-cookie", b"set-cookie2", b"alt-svc"}
_STAYS_ABOVE_PREFIXES = (b"access-control-", b"x-weighbridge-")

_IDENTITY = (b"accept-encoding", b"identity")

_JSON = frozenset(
    {
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/json;charset=utf-8",
        b'application/json; charset="utf-8"',
        b'application/json;charset="utf-8"',
    }
)


def up(headers: Headers, key: bytes) -> Headers:
    """What goes up of a client's headers; the caller adds host, the body's framing and the upstream's credential.

    `key` is the client's: a header that holds it stays, whatever its name. Raises CallerErred UNMETERABLE_PARAMETER.
    """
    kept = [_IDENTITY]
    connection = b""
    for field in headers:
        name = field[0]
        if name not in _LOOKED_AT:
            if not name.startswith(_STAYS_BELOW_PREFIXES):
                kept.append(field)
        elif name == b"accept" and b"proto" not in field[1].lower():
            kept.append(field)
        elif name == b"connection":
            connection += b"," + field[1]
        elif name in _UNMETERABLE or name == b"accept":
            raise CallerErred(
                Reason.UNMETERABLE_PARAMETER,
                f"The header {name.decode('ascii')} is not taken as it stands: it can hide what a call used, or change "
                "what is asked. Leave it out.",
            )
    if key in b"\n".join([value for _, value in kept]):
        kept = [field for field in kept if key not in field[1]]
    return _without_named(kept, connection) if connection else kept


def tell_of_events(headers: Headers) -> bool:
    """Whether a response comes as server-sent events: alt=sse crosses with every call, this says if it is heeded."""
    return any(name == b"content-type" and value[:17].lower() == b"text/event-stream" for name, value in headers)


def down(headers: Headers, secret: bytes) -> Headers:
    """What comes down of an upstream's headers: all but hop-by-hop, set-cookie, alt-svc, CORS, and what holds `secret`.

    `secret` is the key that went up. content-length stays.
    """
    kept = []
    connection = b""
    for field in headers:
        name = field[0]
        if name not in _STAYS_ABOVE:
            if not name.startswith(_STAYS_ABOVE_PREFIXES):
                kept.append(field)
        elif name == b"connection":
            connection += b"," + field[1]
    # Hardly ever one holds it, so one search over all of them tells. No value has a line break.
    if secret and secret in b"\n".join([value for _, value in kept]):
        kept = [field for field in kept if secret not in field[1]]
    return _without_named(kept, connection) if connection else kept


def require_json(headers: Headers) -> None:
    """Refuses a body that Google might read as something other than we do.

    Taken is JSON in UTF-8 without content coding, named application/json or not named at all. Raises CallerErred
    BAD_REQUEST that says what to send.
    """
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) > 1:
        raise _bad("Content-Type is sent more than once. Send it once: 'Content-Type: application/json'.")
    for value in types:
        if value not in _JSON and value.strip().lower() not in _JSON:
            raise _bad(_not_json(value))
    if any(name == b"content-encoding" and value.strip().lower() != b"identity" for name, value in headers):
        raise _bad("The body is compressed (Content-Encoding), and can't be read here. Send it as plain JSON.")


def _not_json(value: bytes) -> str:
    kind = value.partition(b";")[0].strip().lower()
    if kind == b"application/x-www-form-urlencoded":
        return (
            "The body is named application/x-www-form-urlencoded, which is what curl -d calls it by itself. "
            "Add -H 'Content-Type: application/json'."
        )
    if kind == b"application/json":
        return "JSON is taken in UTF-8 and without other parameters. Send 'Content-Type: application/json'."
    return "The body must be JSON in UTF-8. Send 'Content-Type: application/json'."


def _without_named(headers: Headers, connection: bytes) -> Headers:
    """Without the headers that Connection names, which are meant for this hop alone."""
    named = {token.strip().lower() for token in connection.split(b",")} - {b"", b"keep-alive", b"close"}
    return [field for field in headers if field[0] not in named or field is _IDENTITY] if named else headers


def _bad(message: str) -> CallerErred:
    return CallerErred(Reason.BAD_REQUEST, message)


def coding(came: Headers) -> bytes:
    """How a response's body is coded; empty where it isn't. Several headers are one list (RFC 9110, 5.3)."""
    return b", ".join([value for name, value in came if name == b"content-encoding"])
