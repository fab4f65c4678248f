"""The spans that are spliced in what crosses, and redaction of what is the operator's. Nothing is re-serialised."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

_REDACTED = b"REDACTED"
_end = attrgetter("end")

# Between the word and the number, as it stands in prose, in JSON (where Google writes ' and = as \u0027 and \u003d)
# and in a URL.
_BETWEEN = rb"""(?:[\s"':=#/\\]|%(?:2F|3A|3D|20|23)|\\u00[0-9A-F]{2})"""

_SLASH = rb"(?:\\?/|%2F|\\u002F)"

_PROJECT = re.compile(
    rb"((?:projects" + _SLASH + rb"|project[_ -]?number" + _BETWEEN + rb"{1,8}))\d+"
    rb"|(project(?:[_ -]?id)?" + _BETWEEN + rb'{1,4}|"containerInfo"\s{0,8}:\s{0,8}")\d{6,}',
    re.IGNORECASE,
)
_CONSUMER = re.compile(rb'("consumer"\s{0,8}:\s{0,8}"projects' + _SLASH + rb')(?!0")[^"\\]{1,64}', re.IGNORECASE)


_ERROR_OBJECT = rb'(?=\{\s{0,8}"error"\s{0,8}:\s{0,8}\{\s{0,8}"%b")'
_ERRORS = {
    "sse": re.compile(rb"[\r\n](?:data:[ \t]?)?(?:\[\s{0,8})?" + _ERROR_OBJECT % rb"(?:code|message)"),
    "array": re.compile(rb"(?:[\r\n](?:\[\s{0,8})?|,[ \t]{0,8})" + _ERROR_OBJECT % b"code"),
}
"""Where a stream's own objects begin: in a line of their own without indentation, or behind an array's comma. No text
in JSON has a line's end in it, and what Google nests it indents, or leaves in the same line."""

ERROR_REACH = 64
"""Bytes, at least those that `find_error` looks at for one error: its beginning, and what stands before that."""


class Splice(NamedTuple):
    """Bytes that stand in place of others: of those from `start` to `end`, which may be the same."""

    start: int
    end: int
    becomes: bytes

    @property
    def growth(self) -> int:
        """By how many bytes the whole gets longer."""
        return len(self.becomes) - (self.end - self.start)


def spliced(piece: bytes | bytearray, splices: Sequence[Splice], at: int = 0) -> bytes:
    """What becomes of a piece that begins at `at` of the whole, from whose start the splices count, in order.

    A splice may begin before the piece and reach beyond it: its bytes stand where it begins.
    """
    kept, done, stop = [], at, at + len(piece)
    for index in range(bisect_left(splices, at, key=_end), len(splices)):
        start, end, becomes = splices[index]
        if start >= stop:
            break
        if start >= at:
            kept += [piece[done - at : start - at], becomes]
        done = end
    kept.append(piece[done - at :])
    return b"".join(kept)


def find_error(piece: bytes, framing: str) -> int:
    """Where in a piece of a stream, `sse` or `array`, an error of Google's begins; -1 where none does.

    Found is an error that a line's end stands before: put one before a stream. What looks like an error within an
    object is none: a function's arguments may hold any. Costs next to nothing in base64.
    """
    quote = piece.find(b'"')  # crosses base64 at memchr's speed, as a search for the name doesn't
    if quote < 0 or piece.find(b'"error"', quote) < 0:
        return -1
    found = _ERRORS[framing].search(piece)
    return found.end() if found else -1


def redact(body: bytes, secret: bytes) -> bytes:
    """An upstream's error without our key and without the number of the project behind it; all else as it was.

    The key becomes REDACTED, in whatever mixture of plain, percent-encoded and JSON-escaped characters it stands
    there; a project's number (in `consumer` its id, too) becomes 0, so that JSON stays JSON. The length may change:
    content-length is the caller's to mend. Costs about 30 ns a byte: for errors, not for images.
    """
    if secret:
        body = _spellings(secret).sub(_REDACTED, body)
    body = _CONSUMER.sub(rb"\g<1>0", body)
    return _PROJECT.sub(rb"\g<1>\g<2>0", body)


@lru_cache(maxsize=64)
def _spellings(secret: bytes) -> re.Pattern[bytes]:
    """A pattern of every spelling of `secret`: each byte by itself plain, as %XX, or as \\u00XX."""
    return re.compile(b"".join(_spelling(byte) for byte in secret))


def _spelling(byte: int) -> bytes:
    plain = re.escape(bytes((byte,)))
    if byte in b'"/\\':
        plain = rb"\\?" + plain
    code = b"(?i:%02x)" % byte
    return rb"(?:" + plain + rb"|%" + code + rb"|\\u00" + code + rb")"
