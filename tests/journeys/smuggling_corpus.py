"""What clients may send to have one request taken for two, or for another: byte streams, and what must come of each.

The families are the published ones (RFC 9112, sections 2.2, 5 to 7 and 11.2; CL.TE, TE.CL and TE.TE; chunk extensions
and line breaks in chunk lines, of 2025; hop-by-hop names; early answers). The streams are our own.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

KEY, RUN = b"K" * 41, b"run-000000"
"""Stand where the sender's key, and a word that names this sending, are put: each is as long as what replaces it."""
SMUGGLED = b"SMUGGLED"
"""Stands in what must never be taken for a request's head."""


class Case(NamedTuple):
    """One stream on a connection of its own."""

    name: str
    stream: bytes
    answers: tuple[int, ...]
    """The statuses of the final responses, in order."""
    upstream: int
    """How many requests go up."""
    then: Literal["open", "closed", "either", "left"]
    """Whether the connection may be used on; either, where that hangs on what came first; left: the client ends it."""


_HOST_AND_KEY = b"Host: x\r\nX-Goog-Api-Key: %b\r\nX-Run: %b\r\n" % (KEY, RUN)
_PATH = b"/v1beta/models/gemini-3.8-flash:countTokens"
CALL = b"POST %b HTTP/1.1\r\n" % _PATH + _HOST_AND_KEY
LIST = b"GET /v1beta/models HTTP/1.1\r\n" + _HOST_AND_KEY
BODY = b'{"contents":[]}'
INNER = b"GET /v1beta/models?pageToken=SMUGGLED HTTP/1.1\r\n" + _HOST_AND_KEY + b"X-Smuggled: SMUGGLED\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n" % (len(BODY), BODY) + LAST
WHOLE = CALL + LENGTH + b"\r\n" + BODY


def _refused(family: str, streams: dict[str, bytes], status: int = 400) -> list[Case]:
    """Refused by the protocol, and nothing after it read, though it be a request."""
    return [Case(f"{family}: {name}", raw + INNER, (status,), 0, "closed") for name, raw in streams.items()]


def _one(family: str, streams: dict[str, bytes], status: int = 200, upstream: int = 1) -> list[Case]:
    return [Case(f"{family}: {name}", raw, (status,), upstream, "open") for name, raw in streams.items()]


def _chunked(chunks: bytes) -> bytes:
    return CALL + CHUNKED + b"\r\n" + chunks


def _with(*fields: bytes, body: bytes = CHUNKS) -> bytes:
    return CALL + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


_TWO_FRAMINGS = {
    "CL.TE": _with(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=LAST + b"G"),
    "TE.CL": _with(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\nGPOST / HTTP/1.1\r\n" + LAST),
    "CL.0": _with(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    "TE.0 length": _with(b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    "length in the trailers": _chunked(b"0\r\nContent-Length: 5\r\n\r\n"),
    "length 0 in the trailers": _chunked(b"0\r\nContent-Length: 0\r\n\r\n"),
    "coding in the trailers": _chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "identity and a length": _with(b"Transfer-Encoding: identity", LENGTH[:-2], body=BODY),
    "empty coding and a length": _with(b"Transfer-Encoding:", LENGTH[:-2], body=BODY),
}

_CODINGS = {
    "space before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "vertical tab in the name": b"Transfer-Encoding\x0b: chunked",
    "vertical tab before": b"Transfer-Encoding: \x0bchunked",
    "vertical tab behind": b"Transfer-Encoding: chunked\x0b",
    "form feed": b"Transfer-Encoding: \x0cchunked",
    "NUL behind": b"Transfer-Encoding: chunked\x00",
    "no-break space": b"Transfer-Encoding: \xa0chunked",
    "bare CR": b"Transfer-Encoding: \rchunked",
    "bare LF": b"Transfer-Encoding: x\nTransfer-Encoding: chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded behind": b"Transfer-Encoding: chunked\r\n\tx",
    "space before the name": b" Transfer-Encoding: chunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "with a parameter": b"Transfer-Encoding: chunked;a=b",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "identity": b"Transfer-Encoding: identity",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "comma before": b"Transfer-Encoding: , chunked",
    "comma behind": b"Transfer-Encoding: chunked,",
    "empty": b"Transfer-Encoding:",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice, one of them unknown": b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow",
    "twice, the first one unknown": b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "in HTTP/1.0": b"",
}

_LENGTHS = {
    "twice the same": b"15\r\nContent-Length: 15",
    "twice": b"15\r\nContent-Length: 0",
    "a list": b"15, 15",
    "plus": b"+15",
    "minus": b"-15",
    "minus nought": b"-0",
    "hexadecimal": b"0xf",
    "two numbers": b"15 15",
    "underscore": b"1_5",
    "semicolon": b"15;",
    "fraction": b"15.0",
    "empty": b"",
    "beyond 64 bits": b"18446744073709551631",
    "vertical tab": b"\x0b15",
    "folded": b"1\r\n 5",
    "bare LF": b"15\nX: y",
    "bare CR": b"15\rX: y",
    "NUL": b"15\x00",
    "other digits": b"\xd9\xa1\xd9\xa5",
}

_HEADS = {
    "folded field": _with(b"A: b", b" c", LENGTH[:-2], body=BODY),
    "fold before the first field": b"GET /v1beta/models HTTP/1.1\r\n Host: x\r\n\r\n",
    "bare LF between fields": LIST + b"A: b\nTransfer-Encoding: chunked\r\n\r\n",
    "bare CR in a value": LIST + b"A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "bare CR and a request": LIST + b"A: b\r\r" + INNER,
    "LF LF ends the head": LIST[:-2] + b"\n\n",
    "CR CR ends the head": LIST[:-2] + b"\r\r",
    "LF CR LF": LIST[:-2] + b"\n\r\n",
    "NUL in a value": LIST + b"A: b\x00c\r\n\r\n",
    "NUL in a name": LIST + b"A\x00: b\r\n\r\n",
    "control character in a value": LIST + b"A: b\x01c\r\n\r\n",
    "DEL in a value": LIST + b"A: b\x7f\r\n\r\n",
    "name with a space": LIST + b"A b: c\r\n\r\n",
    "name of no ASCII": LIST + b"A\xe9: c\r\n\r\n",
    "name with a quote": LIST + b'A"b: c\r\n\r\n',
    "no name": LIST + b": c\r\n\r\n",
    "no colon": LIST + b"Transfer-Encoding\r\n\r\n",
    "NUL in the target": LIST.replace(b"/models", b"/models\x00"),
    "tab in the target": LIST.replace(b"/models", b"/models\t"),
    "LF in the target": LIST.replace(b"/models", b"/models\nHost: y"),
    "space in the target": LIST.replace(b"/models", b"/models HTTP/1.1 x"),
    "byte of no ASCII in the target": LIST.replace(b"/models", b"/models\xff"),
    "fragment in the target": LIST.replace(b"/models", b"/models#a"),
    "NUL before the request": b"\x00" + LIST,
    "space before the request": b" " + LIST,
    "version with a space behind": LIST.replace(b"HTTP/1.1", b"HTTP/1.1 "),
    "version in small letters": LIST.replace(b"HTTP/1.1", b"http/1.1"),
    "version 1.10": LIST.replace(b"HTTP/1.1", b"HTTP/1.10"),
    "version 1.2": LIST.replace(b"HTTP/1.1", b"HTTP/1.2") + b"\r\n",
    "version 2.0": LIST.replace(b"HTTP/1.1", b"HTTP/2.0") + b"\r\n",
    "HTTP/0.9": b"GET /v1beta/models\r\n",
    "HTTP/0.9 by name": LIST.replace(b"HTTP/1.1", b"HTTP/0.9") + b"\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown method": LIST.replace(b"GET", b"GOT"),
    "method in small letters": LIST.replace(b"GET", b"get"),
    "line break in the method": b"GE\r\nT /v1beta/models HTTP/1.1\r\n",
    "authority as target": b"CONNECT x:443 HTTP/1.1\r\n" + _HOST_AND_KEY + b"\r\n",
    "absolute target with a user": LIST.replace(b"/v1beta", b"http://a:b@x/v1beta") + b"\r\n",
    "absolute target of no HTTP": LIST.replace(b"/v1beta", b"ftp://x/v1beta") + b"\r\n",
    "no host": LIST.replace(b"Host: x\r\n", b"") + b"\r\n",
    "host twice": LIST + b"Host: x\r\n\r\n",
    "host with a space": LIST.replace(b"Host: x", b"Host: x y") + b"\r\n",
    "host with a path": LIST.replace(b"Host: x", b"Host: x/y") + b"\r\n",
    "hosts in a list": LIST.replace(b"Host: x", b"Host: x, y") + b"\r\n",
    "NUL behind the key": LIST.replace(KEY, KEY + b"\x00"),
    "line break behind the key": LIST.replace(KEY, KEY + b"\nX-Goog-User-Project: p"),
}

_CHUNKS = {
    "space behind the size": b"f \r\n%b\r\n" % BODY,
    "tab behind the size": b"f\t\r\n%b\r\n" % BODY,
    "space before the size": b" f\r\n%b\r\n" % BODY,
    "0x": b"0xf\r\n%b\r\n" % BODY,
    "plus": b"+f\r\n%b\r\n" % BODY,
    "minus": b"-f\r\n%b\r\n" % BODY,
    "underscore": b"0_f\r\n%b\r\n" % BODY,
    "no size": b"\r\n%b\r\n" % BODY,
    "no digit": b"g\r\n%b\r\n" % BODY,
    "beyond 64 bits": b"1000000000000000f\r\n%b\r\n" % BODY,
    "LF behind the size": b"f\n%b\r\n" % BODY,
    "CR behind the size": b"f\r%b\r\n" % BODY,
    "CR CR LF behind the size": b"f\r\r\n%b\r\n" % BODY,
    "LF behind the data": b"f\r\n%b\n" % BODY,
    "CR behind the data": b"f\r\n%b\r" % BODY,
    "nothing behind the data": b"f\r\n%b" % BODY,
    "other bytes behind the data": b"f\r\n%bXX" % BODY,
    "longer than it says": b"e\r\n%b\r\n" % BODY,
    "shorter than it says": b"10\r\n%b\r\n" % BODY,
    "last chunk with LF": b"f\r\n%b\r\n0\n\n" % BODY,
    "last line with LF": b"f\r\n%b\r\n0\r\n\n" % BODY,
    "extension with LF": b"f;\n%b\r\n" % BODY,
    "extension's name with LF": b"2;a\nxx\r\n4c\r\n0\r\n\r\n",
    "extension's value with LF": b"f;a=b\n%b\r\n" % BODY,
    "extension with CR": b"f;a\rb\r\n%b\r\n" % BODY,
    "extension with NUL": b"f;a\x00\r\n%b\r\n" % BODY,
    "extension quoted over a line": b'f;a="\r\n%b\r\n' % BODY,
    "extension quoted over LF": b'f;a="\n"\r\n%b\r\n' % BODY,
    "extension with an escaped LF": b'f;a="\\\n"\r\n%b\r\n' % BODY,
    "extension with an escaped CR": b'f;a="\\\r"\r\n%b\r\n' % BODY,
    "extension without a name": b"f;\r\n%b\r\n" % BODY,
    "extensions of semicolons": b"f;;;\r\n%b\r\n" % BODY,
    "extension with spaces": b"f ; a = b\r\n%b\r\n" % BODY,
    "folded trailer": b"f\r\n%b\r\n0\r\nA: b\r\n c\r\n\r\n" % BODY,
    "trailer with LF": b"f\r\n%b\r\n0\r\nA: b\n\r\n" % BODY,
    "trailer with NUL": b"f\r\n%b\r\n0\r\nA: b\x00\r\n\r\n" % BODY,
    "trailer without a colon": b"f\r\n%b\r\n0\r\nGET / HTTP/1.1\r\n\r\n" % BODY,
    "a request where the last line belongs": b"f\r\n%b\r\n0\r\n" % BODY,
}

_ONE = {
    "length": WHOLE,
    "length after a tab": _with(b"Content-Length:\t15 \t", body=BODY),
    "length with noughts": _with(b"Content-Length: 0015", body=BODY),
    "coding in capitals": _with(b"TRANSFER-ENCODING: CHUNKED"),
    "coding after a tab": _with(b"Transfer-Encoding:\tchunked "),
    "underscore in the coding's name": _with(b"Transfer_Encoding: chunked", LENGTH[:-2], body=BODY),
    "size with noughts": _chunked(b"0" * 40 + b"f\r\n" + BODY + b"\r\n000\r\n\r\n"),
    "extension": _chunked(b"f;a=b;c\r\n" + BODY + b"\r\n0;d\r\n\r\n"),
    "quoted extension": _chunked(b'f;a=";0\\""\r\n' + BODY + b"\r\n" + LAST),
    "long extension": _chunked(b"f;" + b"a" * 20_000 + b"\r\n" + BODY + b"\r\n" + LAST),
    "trailers that name a key": _chunked(CHUNKS[:-2] + b"X-Goog-Api-Key: SMUGGLED\r\nAuthorization: SMUGGLED\r\n\r\n"),
    "trailers that name a host": _chunked(CHUNKS[:-2] + b"Host: SMUGGLED\r\nX-Run: SMUGGLED\r\n\r\n"),
    "trailers that ask for an upgrade": _chunked(CHUNKS[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "a request for a body": _with(b"Content-Length: %d" % (len(INNER) + 20), body=b'{"contents":[]}%b     ' % INNER),
    "a request in a chunk": _chunked(b"%x\r\n%b\r\n" % (len(INNER), INNER) + LAST),
    "connection names the length": _with(b"Connection: content-length", LENGTH[:-2], body=BODY),
    "connection names the coding": _with(b"Connection: transfer-encoding, te", CHUNKED[:-2]),
    "connection names the host": _with(b"Connection: host", LENGTH[:-2], body=BODY),
    "connection names credentials": _with(b"Connection: x-goog-api-key, authorization", LENGTH[:-2], body=BODY),
    "connection names our coding": _with(b"Connection: accept-encoding, content-type", LENGTH[:-2], body=BODY),
    "connection on folded commas": _with(b"Connection: ,,content-length , ,", LENGTH[:-2], body=BODY),
    "expect": _with(b"Expect: 100-continue", LENGTH[:-2], body=BODY),
    "expect in capitals, in chunks": _with(b"EXPECT: 100-CONTINUE", CHUNKED[:-2]),
    "expect of nothing": LIST + b"Expect: 100-continue\r\n\r\n",
    "expect of another kind": _with(b"Expect: 200-ok", LENGTH[:-2], body=BODY),
    "expect twice": _with(b"Expect: 100-continue", b"Expect: x", LENGTH[:-2], body=BODY),
    "upgrade to h2c": _with(
        b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA", LENGTH[:-2], body=BODY
    ),
    "upgrade to websocket in chunks": _with(b"Connection: upgrade", b"Upgrade: websocket", CHUNKED[:-2]),
    "upgrade without a body": LIST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "upgrade that connection doesn't name": _with(b"Upgrade: h2c", LENGTH[:-2], body=BODY),
    "absolute target": LIST.replace(b"/v1beta", b"http://elsewhere:1/v1beta") + b"\r\n",
    "empty lines before": b"\r\n\r\n" + WHOLE,
    "method override": WHOLE.replace(b"Host: x", b"Host: x\r\nX-Rewrite-Url: /SM\r\nX-Original-Url: /SM"),
    "line breaks in the query": LIST.replace(b"/models", b"/models?pageToken=a%0d%0aHost:%20b%0d%0a%0d%0aGET%20/")
    + b"\r\n",
    "NUL in the query": LIST.replace(b"/models", b"/models?pageToken=a%00") + b"\r\n",
    "key in the query": LIST.replace(b"/models", b"/models?key=" + KEY + b"%0d%0a&pageSize=2") + b"\r\n",
    "bytes of no ASCII in a value": LIST + b"A: \xff\xfe\r\n\r\n",
}

_REFUSED_BY_THE_APP = {
    "line break in the path": LIST.replace(b"/models", b"/models/a%0d%0aHost:%20b") + b"\r\n",
    "request in the path": LIST.replace(b"/models", b"/models/a%20HTTP/1.1%0d%0aX:%20b") + b"\r\n",
    "NUL in the path": LIST.replace(b"/models", b"/models/a%00") + b"\r\n",
    "line break in a key": LIST.replace(b"/models", b"/models?key=" + KEY + b"%0d%0aX:y") + b"\r\n",
    "key of another header": LIST.replace(KEY, KEY + b", x") + b"\r\n",
    "encoded slash": LIST.replace(b"/models", b"/models%2fa") + b"\r\n",
}

_TWO = {
    "lengths": WHOLE + WHOLE,
    "chunks, then none": _chunked(CHUNKS) + LIST + b"\r\n",
    "none, then length": LIST + b"\r\n" + WHOLE,
    "empty lines between": WHOLE + b"\r\n\r\n" + LIST + b"\r\n",
    "trailers between": _chunked(CHUNKS[:-2] + b"X-Run: SMUGGLED\r\nContent-Type: SMUGGLED\r\n\r\n") + LIST + b"\r\n",
    "upgrade, then length": LIST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + WHOLE,
    "upgrade with a body, then none": _with(b"Connection: upgrade", b"Upgrade: x", CHUNKED[:-2]) + LIST + b"\r\n",
}

_NO_KEY = CALL.replace(KEY, b"no-key")
_ENDED = {
    "request after close": (WHOLE.replace(b"Host: x", b"Host: x\r\nConnection: close") + INNER, (200,)),
    "close beside keep-alive": (LIST + b"Connection: keep-alive, close\r\n\r\n" + INNER, (200,)),
    "HTTP/1.0": (LIST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + INNER, (200,)),
    "HTTP/1.0 and keep-alive": (
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: x", b"Connection: keep-alive") + INNER,
        (200,),
    ),
    "length too large": (_with(b"Content-Length: 18446744073709551615", body=BODY) + INNER, (413,)),
    "early answer, then the body": (_NO_KEY + b"Content-Length: 90000\r\n\r\n" + INNER * 90, (400,)),
    "early answer, then chunks": (_NO_KEY + CHUNKED + b"\r\nfff0\r\n" + INNER * 90, (400,)),
    "early answer, then no chunk": (_NO_KEY + CHUNKED + b"\r\n", (400,)),
    "two, then nonsense": (WHOLE + WHOLE + b"\x00" + INNER, (200, 200, 400)),
}

_LEFT = {
    "no last chunk": _chunked(CHUNKS[:-5]),
    "no last line break": _chunked(CHUNKS[:-2]),
    "body short of its length": WHOLE[:-1],
    "head without its end": LIST,
}

_EITHER = {
    "GET with a length": (LIST + b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER, 400),
    "GET in chunks": (LIST + CHUNKED + b"\r\n%x\r\n%b\r\n" % (len(INNER), INNER) + LAST, 400),
    "CONNECT": (b"CONNECT /v1beta/models HTTP/1.1\r\n" + _HOST_AND_KEY + LENGTH + b"\r\n" + BODY, 404),
    "HEAD": (LIST.replace(b"GET", b"HEAD") + LENGTH + b"\r\n" + BODY, 404),
    "DELETE": (WHOLE.replace(b"POST", b"DELETE"), 404),
    "no JSON": (_with(b"Content-Type: multipart/form-data", LENGTH[:-2], body=BODY), 400),
    "in a coding": (_with(b"Content-Encoding: gzip", LENGTH[:-2], body=BODY), 400),
}


def _codings() -> dict[str, bytes]:
    streams = {name: _with(field) for name, field in _CODINGS.items()}
    streams["in HTTP/1.0"] = _chunked(CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0")
    return streams


def _with_length(head: bytes) -> bytes:
    return head.replace(b"\r\n\r\n", b"\r\n" + LENGTH + b"\r\n", 1)


CORPUS: list[Case] = [
    *_refused("two framings", _TWO_FRAMINGS),
    *_refused("coding", _codings()),
    *_refused("coding and length", {name: _with_length(raw) for name, raw in _codings().items()}),
    *_refused("length", {name: _with(b"Content-Length: " + value, body=BODY) for name, value in _LENGTHS.items()}),
    *_refused("head", _HEADS),
    *_refused("chunks", {name: _chunked(chunks) for name, chunks in _CHUNKS.items()}),
    *_one("one", _ONE),
    *_one("refused by the app", _REFUSED_BY_THE_APP, 400, 0),
    *[Case(f"two: {name}", raw, (200, 200), 2, "open") for name, raw in _TWO.items()],
    *[Case(f"ended: {name}", raw, ends, ends.count(200), "closed") for name, (raw, ends) in _ENDED.items()],
    *[Case(f"left: {name}", raw, (), 0, "left") for name, raw in _LEFT.items()],
    *[Case(f"a body not to be read: {name}", raw, (http,), 0, "either") for name, (raw, http) in _EITHER.items()],
]
