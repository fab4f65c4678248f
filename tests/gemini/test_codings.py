"""A body without its content coding, or an error; tests/gateway/test_meter.py has what comes in pieces."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxy.gemini.codings import decoded

TEXT = b'{"error":{"code":429}}' * 50


def bare_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        (b"", TEXT),
        (b"identity", TEXT),
        (b" GZIP ", gzip.compress(TEXT)),
        (b"x-gzip", gzip.compress(TEXT)),
        (b"gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", bare_deflate(TEXT)),
    ],
)
def test_a_body_is_decoded_by_what_its_header_says(coding: bytes, packed: bytes) -> None:
    assert decoded(packed, coding, len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        (b"br", TEXT),
        (b"gzip", TEXT),
        (b"gzip", b""),
        (b"gzip", gzip.compress(TEXT)[:-1]),
        (b"gzip", gzip.compress(TEXT) + b"more"),
        (b"gzip", gzip.compress(TEXT) + gzip.compress(b"")[:-1]),
        (b"deflate", zlib.compress(TEXT[:100]) + zlib.compress(TEXT[100:])),
        (b"gzip, gzip", gzip.compress(gzip.compress(TEXT))),
        (b"gzip", gzip.compress(bytes(len(TEXT) + 1))),
        (b"gzip", gzip.compress(bytes(1 << 26))),
    ],
)
def test_what_cannot_be_decoded_within_the_limit_is_an_error(coding: bytes, packed: bytes) -> None:
    with pytest.raises(ValueError, match="content coding"):
        decoded(packed, coding, len(TEXT))
