"""The spans that are spliced in what crosses: redaction of what is the operator's. Nothing is re-serialised."""

from __future__ import annotations

import re
from functools import lru_cache

_REDACTED = b"REDACTED"

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


_ERROR = re.compile(rb'\{\s{0,8}"error"\s{0,8}:\s{0,8}\{\s{0,8}"code"')
_MEMBER = re.compile(rb'"\s{0,8}:\s{0,8}\Z')

ERROR_REACH = 80
"""Bytes, at least those that `find_error` looks at for one error: its beginning, and what stands before that."""
ERROR_CONTEXT = 32
"""Bytes, at least those of them that stand before the error."""


def find_error(piece: bytes, start: int = 0) -> int:
    """Where in a piece of a stream, from `start` on, an error of Google's begins; -1 where none does.

    An object that is the value of a member is none: a function's arguments may hold what looks like one. Costs next to
    nothing in base64.
    """
    quote = piece.find(b'"', start)  # crosses base64 at memchr's speed, as a search for the name doesn't
    if quote < 0 or piece.find(b'"error"', quote) < 0:
        return -1
    for found in _ERROR.finditer(piece, start):
        at = found.start()
        if not _MEMBER.search(piece, max(0, at - ERROR_CONTEXT), at):
            return at
    return -1


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
