"""What must not be told, taken out of a text: whatever has the shape of a secret, and each secret that was read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

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


class _Shape(NamedTuple):
    """What a secret looks like. A group of `pattern`, where there is one, is the part to be taken out.

    Wherever it matches, `sign` stands, and in lower case one of `needles`: to look for those costs a tenth of a
    microsecond, and next to nothing for a single character.
    """

    sign: str
    needles: tuple[str, ...]
    pattern: re.Pattern[str]


_SHAPES = (
    _Shape("I", ("aiza",), re.compile(r"AIza[0-9A-Za-z_-]{20,}")),  # a Google API key
    _Shape("Q", ("aq.",), re.compile(r"AQ\.[0-9A-Za-z_.-]{16,}")),  # a Google auth key
    _Shape("", ("wb",), re.compile(r"wba?_[0-9A-Za-z]{8,}")),  # a virtual key, an admin token
    _Shape("", ("whsec_",), re.compile(r"whsec_[0-9A-Za-z+/=_-]{8,}")),  # a secret that webhooks are signed with
    _Shape("", ("ya29.",), re.compile(r"ya29\.[0-9A-Za-z_.-]{8,}")),  # a Google OAuth token
    _Shape("", ("bearer",), re.compile(r"(?i)bearer\s+([^\s\"',]{8,})")),
    _Shape("=", ("key=",), re.compile(r"(?i)[?&]\$?key=([^&\s\"']+)|(?<![0-9a-z])key=([^&\s\"',;]{8,})")),
    _Shape("/", ("://",), re.compile(r"://[^\s/?#\"'<>:@]*:([^\s/?#\"'<>]+)@")),  # a password in a URL
    _Shape(
        "=",
        ("key", "authorization", "cookie", "pass", "pwd", "secret", "token"),
        re.compile(rf"(?i)(?<![0-9a-z]){_NAMES}[\"']? ?= ?[\"']?([^&\s\"',;]+)"),
    ),
    _Shape(
        "",
        ("api", "authorization", "cookie", "pass", "secret", 'token"', "token'"),
        re.compile(
            rf"(?i)(?<![0-9a-z])(?:{_NAMES}[\"']\s*[:,]\s*b?[\"']([^\"']+)"
            r"|(?:x-goog-|x-)api-key:\s*([^\s\"',]{8,})"
            r"|authorization:\s*(?:bearer\s+|basic\s+)?([^\s\"',]{8,})"
            r"|cookie:\s*([^\s\"'][^\n\"']*))"
        ),
    ),
)
_UNSIGNED = tuple(needle for shape in _SHAPES if not shape.sign for needle in shape.needles)
_SIGNED = tuple(shape for shape in _SHAPES if shape.sign)

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
    if not suspicious(text):
        return text
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


def suspicious(text: str) -> bool:
    """Whether a text may hold a secret, or a line of JSON one: of a common line it costs two microseconds to say no."""
    if "%" in text or "\\" in text:
        return True
    low = text.lower()
    for needle in _UNSIGNED:  # any() would take twice as long
        if needle in low:
            return True
    for sign, needles, _ in _SIGNED:
        if sign in text and any(needle in low for needle in needles):
            return True
    for needle in secrets.known().values():  # noqa: SIM110
        if needle in low:
            return True
    return False


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
    low = text.lower()
    for sign, needles, pattern in _SHAPES:
        if sign in text and any(needle in low for needle in needles):
            for match in pattern.finditer(text):
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
