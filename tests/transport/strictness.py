"""Where we take less than h11: each reason, what it looks like on the wire, and the corpus's cases of it.

Nowhere do we take more. What h11 refuses and we refuse sooner is no difference.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.upstreams.framing import MAX_CHUNK_LINE, MAX_TRAILERS
from proxy.upstreams.heads import MAX_FIELDS, MAX_HEAD
from proxy.upstreams.incoming import MAX_INTERIM


class Reason(NamedTuple):
    """`looks` is found in every response that we refuse for this reason."""

    looks: re.Pattern[bytes]
    cases: tuple[str, ...]


def _reason(looks: bytes, *cases: str) -> Reason:
    return Reason(re.compile(looks, re.IGNORECASE | re.DOTALL), cases)


_CONTROL = rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_FIELDS = rb"(?:[^\r\n]+\r\n)"
REASONS = {
    "a line that doesn't end in CR LF: others see other lines": _reason(
        rb"(?<!\r)\n",
        "chunked behind a bare LF",
        "a trailer that ends in LF",
        "trailers that end in LF",
        "a value that ends in LF",
        "a status line that ends in LF",
        "a head that ends in LF LF",
        "a head that ends in CR LF LF",
        "a head that ends in LF CR LF",
        "a head all of whose lines end in LF",
    ),
    "a folded line: out of use, and taken for a field of its own by some": _reason(
        rb"\n[\t ]",
        "chunked on a folded line",
        "a folded trailer",
        "a folded field",
        "a field folded by a tab",
        "a folded line of blanks",
    ),
    "content-length more than once, though the same": _reason(
        rb"\ncontent-length:[^\n]*(?:,|\n(?:.*\n)?content-length:)",
        "length twice and the same",
        "length twice in one field",
    ),
    "content-length beside transfer-encoding: the stuff of smuggling": _reason(
        rb"\ncontent-length:.*\ntransfer-encoding:|\ntransfer-encoding:.*\ncontent-length:",
        "chunked beside a length",
        "a length beside chunked",
        "chunked before a tab beside a length",
    ),
    "a content-length of more than 18 digits": _reason(
        rb"\ncontent-length:[\t ]*[0-9][0-9\t ]{18}",
        "length of 19 digits",
        "length of 2**64",
        "length of 2**64 + 5",
    ),
    "transfer-encoding in HTTP/1.0, which knows none": _reason(
        rb"HTTP/1\.0 .*\ntransfer-encoding:", "chunked in HTTP/1.0"
    ),
    "a version other than 1.0 and 1.1": _reason(
        rb"(?:^|\n)HTTP/(?!1\.[01])[0-9]\.[0-9]", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9"
    ),
    "a status beyond 599": _reason(rb"(?:^|\n)HTTP/1\.[01] [6-9][0-9]{2}", "600", "999"),
    "a control character in a field's value": _reason(
        rb"\n[!-~]+:[^\r\n]*" + _CONTROL, "a value with a control character", "a value with DEL"
    ),
    "a control character in the reason phrase": _reason(
        rb"(?:^|\n)HTTP/1\.[01] [1-5][0-9]{2} [^\r\n]*" + _CONTROL, "an escape in the reason phrase"
    ),
    "blanks behind a chunk's size": _reason(rb"\n[0-9a-f]+[\t ]+(?:;[^\r\n]*)?\r\n", "a blank behind a size"),
    "a chunk's size of more than 15 digits": _reason(
        rb"\n[0-9a-f]{16}", "a size of 2**64 + 5", "a size of 16 digits that is small"
    ),
    "a control character in a chunk's extension": _reason(
        rb"\n[0-9a-f]+;[^\r\n]*(?:%b|\r(?!\n))" % _CONTROL,
        "an extension with a bare CR",
        "an extension with a control character",
    ),
    "more of a chunk's extensions than are passed over": _reason(
        rb"\n[0-9a-f]+;[^\r\n]{%d}" % (MAX_CHUNK_LINE + 1), "extensions beyond their bound"
    ),
    "framing in a trailer": _reason(
        rb"\n0+(?:;[^\r\n]*)?\r\n(?:.*\n)?(?:content-length|transfer-encoding):", "a length in the trailers"
    ),
    "more trailers than are passed over": _reason(
        rb"\n0+(?:;[^\r\n]*)?\r\n.{%d}" % MAX_TRAILERS, "trailers beyond their bound"
    ),
    "more fields than are held": _reason(
        rb"HTTP/1\.[01] [^\r\n]*\r\n%b{%d}" % (_FIELDS, MAX_FIELDS + 1), "more fields than are held"
    ),
    "heads longer than are held, interim ones included": _reason(
        rb"^.{%d}" % MAX_HEAD, "a head longer than is held", "interim heads that are long together"
    ),
    "more interim responses than are passed over": _reason(
        rb"^(?:HTTP/1\.[01] 1[0-9]{2}.*?\r\n\r\n){%d}" % (MAX_INTERIM + 1), "more before it than are passed over"
    ),
}


def reasons(wire: bytes) -> set[str]:
    """Those that the bytes give for taking less."""
    return {name for name, reason in REASONS.items() if reason.looks.search(wire)}
