"""What must not be told, taken out of a text: whatever has the shape of a secret, and each secret that was read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter

from proxy.config import secrets

REDACTED = "[redacted]"
LAYERS = 4
"""How deep escapes may be nested, as in a query that stands in a URL within JSON within JSON, and are still read."""
LONGEST_SECRET = 1024
"""Characters that are looked at beyond a cut, so that none leaves a part of a secret behind."""
SHORTEST = 6
"""Characters. A secret that is shorter is found where it is a word of its own."""

_NAMES = (
    r"(?:(?:x-goog-|x-)?api[_-]?key|(?:proxy-)?authorization|(?:set-)?cookie|pass(?:word|wd|phrase)|pwd"
    r"|(?:[a-z]+_)?secret|(?:[a-z]+_)?token)"
)
"""What a secret is called beside it."""

_SHAPES = re.compile(
    r"AIza[0-9A-Za-z_-]{20,}"  # a Google API key
    r"|AQ\.[0-9A-Za-z_.-]{16,}"  # a Google auth key
    r"|wba?_[0-9A-Za-z]{8,}"  # a virtual key, an admin token
    r"|whsec_[0-9A-Za-z+/=_-]{8,}"  # a secret that webhooks are signed with
    r"|ya29\.[0-9A-Za-z_.-]{8,}"  # a Google OAuth token
    r"|(?i:bearer)\s+([^\s\"',]{8,})"
    r"|[?&]\$?(?i:key)=([^&\s\"']+)"
    r"|(?<![0-9A-Za-z])(?i:key)=([^&\s\"',;]{8,})"
    r"|://[^\s/?#\"'<>:@]*:([^\s/?#\"'<>]+)@"  # a password in a URL
    rf"|(?<![0-9A-Za-z])(?i:{_NAMES})[\"']?\s*=\s*[\"']?([^&\s\"',;]+)"
    rf"|(?<![0-9A-Za-z])(?i:{_NAMES})[\"']\s*[:,]\s*b?[\"']([^\"']+)"
    r"|(?<![0-9A-Za-z])(?i:(?:x-goog-|x-)api-key|(?:proxy-)?authorization):\s*(?i:(?:bearer|basic)\s+)?([^\s\"',]{8,})"
    r"|(?i:cookie):\s*([^\s\"'][^\n\"']*)"
)
"""A group, where there is one, is the part to be taken out."""

_NEEDLES = (
    *(b"aiza", b"aq.", b"wb_", b"wba_", b"whsec_", b"ya29.", b"bearer", b"key=", b"://", b"api", b"authorization"),
    *(b"cookie", b"passw", b"passphrase", b"pwd", b"secret", b'token"', b"token=", b"token'", b"token ", b"%", b"\\"),
)
"""One of these stands, in lower case, wherever a shape may: looked for at memchr's speed before any pattern is."""

_named = re.compile(_NAMES, re.IGNORECASE).fullmatch

_PERCENT = r"%(?P<percent>[0-9A-Fa-f]{2})"
_BACKSLASH = r"\\(?:u(?P<unicode>[0-9A-Fa-f]{4})|x(?P<byte>[0-9A-Fa-f]{2})|(?P<control>[nrt])|(?P<itself>[\"'/\\]))"
_ESCAPES = tuple(re.compile(escapes) for escapes in (_PERCENT, _BACKSLASH, f"{_PERCENT}|{_BACKSLASH}"))
"""Each by itself, too: a secret may hold what looks like an escape, and isn't one."""
_CONTROL = {"n": "\n", "r": "\r", "t": "\t"}

Span = tuple[int, int]
Edges = list[tuple[int, int]]


def redact(text: str) -> str:
    """The text without any secret, also where it is percent-encoded, or escaped as in JSON or by Python's repr."""
    kept, at = [], 0
    for start, end in _spans(text):
        if start >= at:
            kept += [text[at:start], REDACTED]
        at = max(at, end)
    return "".join([*kept, text[at:]]) if kept else text


def redacted(value: object) -> object:
    """A value of JSON with every text in it redacted, names of members, too; and what a name says is a secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(name): REDACTED if _named(name) and each else redacted(each) for name, each in value.items()}
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and _named(value[0]):  # a header, or another field
            return [value[0], REDACTED]
        return [redacted(each) for each in value]
    return value


def suspicious(line: bytes) -> bool:
    """Whether a line of JSON may hold a secret. Costs about a microsecond."""
    low = line.lower()
    return any(needle in low for needle in _NEEDLES) or any(needle in low for needle in secrets.known().values())


def shortened(text: str, longest: int) -> str:
    """The beginning and the end of a text that is longer, without any secret, and without a part of one at the cut."""
    if len(text) <= longest:
        return text
    half = longest // 2
    head = redact(text[: half + LONGEST_SECRET])[:-LONGEST_SECRET][:half]
    tail = redact(text[-half - LONGEST_SECRET :])[LONGEST_SECRET:][-half:]
    return f"{head} [… {len(text)} characters …] {tail}"


def _spans(text: str) -> list[Span]:
    """Where secrets stand in a text, in order; they may overlap."""
    found = list(_found(text))
    if "%" in text or "\\" in text:
        for escape in _ESCAPES:
            found += _found_under(text, escape)
    return sorted(found)


def _found_under(text: str, escape: re.Pattern[str]) -> Iterator[Span]:
    """Where in the text secrets stand that are written with such escapes."""
    layers: list[Edges] = []
    plain = text
    while len(layers) < LAYERS:
        plain, edges = _unescaped(plain, escape)
        if len(edges) == 1:
            return
        layers.append(edges)
        for start, end in _found(plain):
            yield _origin(start, layers), _origin(end, layers)


def _found(text: str) -> Iterator[Span]:
    for match in _SHAPES.finditer(text):
        yield match.span(match.lastindex or 0)
    for secret in secrets.known():
        at = text.find(secret)
        while at >= 0:
            end = at + len(secret)
            if len(secret) >= SHORTEST or not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum()):
                yield at, end
            at = text.find(secret, end)


def _unescaped(text: str, escape: re.Pattern[str]) -> tuple[str, Edges]:
    """The text with one layer of escapes undone, and where in both each stretch begins that was moved."""
    pieces: list[str] = []
    edges, at, length = [(0, 0)], 0, 0
    for match in escape.finditer(text):
        pieces += [text[at : match.start()], _character(match)]
        length += match.start() - at
        at = match.end()
        edges += [(length, match.start()), (length + 1, at)]
        length += 1
    pieces.append(text[at:])
    return "".join(pieces), edges


def _character(escape: re.Match[str]) -> str:
    """What an escape stands for."""
    kind, written = escape.lastgroup, escape[escape.lastindex or 0]
    if kind == "itself":
        return written
    return _CONTROL[written] if kind == "control" else chr(int(written, 16))


def _origin(position: int, layers: list[Edges]) -> int:
    """Where in the text something stands that was found under so many layers."""
    for edges in reversed(layers):
        here, there = edges[bisect_right(edges, position, key=itemgetter(0)) - 1]
        position = there + position - here
    return position
