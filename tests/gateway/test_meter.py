"""The meter: identity goes straight through, compressed bodies are inflated within bounds, nothing makes it raise."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.meter import Meter
from proxy.gemini.codings import STEP
from proxy.gemini.reading import Reading

USAGE = {"promptTokenCount": 3, "totalTokenCount": 10}


def body(text: str = "hello") -> bytes:
    answer = {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}], "usageMetadata": USAGE}
    return json.dumps(answer).encode()


def bare(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def metered(encoding: bytes, data: bytes, size: int = 10_000, complete: bool = True) -> tuple[Meter, Reading]:
    meter = Meter("single", encoding)
    passed(meter, *(data[start : start + size] for start in range(0, len(data), size)))
    return meter, meter.finish(complete)


def passed(meter: Meter, *chunks: bytes) -> int:
    """Feeds it. How often others had their turn."""
    turns = 0
    for chunk in chunks:
        feeding = meter.feed(chunk)
        with contextlib.suppress(StopIteration):
            while True:
                feeding.send(None)
                turns += 1
    return turns


PLAIN = metered(b"", body())[1]


@pytest.mark.parametrize("encoding", [b"", b"identity", b" Identity "])
def test_identity_goes_straight_to_the_scanner(encoding: bytes) -> None:
    meter, reading = metered(encoding, body())
    assert reading == PLAIN
    assert meter.seen == len(body())
    assert reading.usage == json.dumps(USAGE).encode()


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [(b"gzip", gzip.compress), (b"X-Gzip", gzip.compress), (b"deflate", zlib.compress), (b"deflate", bare)],
)
def test_a_compressed_response_yields_what_a_plain_one_does(
    encoding: bytes, compress: Callable[[bytes], bytes], size: int
) -> None:
    data = compress(body())
    meter, reading = metered(encoding, data, size)
    assert reading == PLAIN
    assert meter.seen == len(data)


def test_a_large_compressed_image_is_followed_to_its_end() -> None:
    noise = random.Random(1).randbytes(600_000).hex()
    answer = body(noise)
    _, reading = metered(b"gzip", gzip.compress(answer), 65_536)
    assert reading == PLAIN


def test_text_that_compresses_well_is_no_bomb() -> None:
    words = " ".join(str(number) for number in range(400_000))
    _, reading = metered(b"gzip", gzip.compress(body(words), 9), 65_536)
    assert reading == PLAIN


@pytest.mark.parametrize("over", range(1, 258, 16))
def test_what_zlib_still_holds_when_its_input_is_used_up_is_fetched(over: int) -> None:
    """A last match across the end of a step, in few enough bits that zlib has read past them."""
    deflater = zlib.compressobj(1, wbits=-15, strategy=zlib.Z_FIXED, memLevel=9)
    answer = body("x" * (STEP - 2000)).ljust(STEP + over)
    _, reading = metered(b"deflate", deflater.compress(answer) + deflater.flush(), STEP)
    assert reading == PLAIN


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"compress"])
def test_an_unknown_coding_is_said_to_be_unreadable(encoding: bytes) -> None:
    meter, reading = metered(encoding, body())
    assert reading.unreadable
    assert not reading.complete
    assert reading.usage is None
    assert reading.unseen
    assert meter.seen == len(body())


def test_a_compressed_stream_cut_short_is_not_complete_whatever_its_framing_says() -> None:
    _, reading = metered(b"gzip", gzip.compress(body("x" * 1000))[:-9])
    assert not reading.complete


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_compressed_response_may_come_as_several_gzip_members(size: int) -> None:
    answer = body()
    data = b"".join(gzip.compress(part) for part in (answer[:20], b"", answer[20:]))
    assert metered(b"gzip", data, size)[1] == PLAIN
    assert not metered(b"gzip", data[:-1], size)[1].complete


@pytest.mark.parametrize(("coding", "compress"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_what_follows_the_compressed_stream_makes_it_unreadable(
    coding: bytes, compress: Callable[[bytes], bytes]
) -> None:
    _, reading = metered(coding, compress(body()) + b"more")
    assert (reading.unreadable, reading.complete) == (True, False)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("framing", "unit"), [("sse", b"data:{}\n\n"), ("sse", b"\n"), ("array", b"{},")])
def test_a_piece_that_makes_much_work_leaves_the_loop_to_others_meanwhile(
    framing: str, unit: bytes, packed: bool
) -> None:
    """Of the smallest events and lines, no more than 3,000 are read in one turn."""
    text = (b"[" if framing == "array" else b"") + unit * 30_000
    assert passed(Meter(framing, b"gzip" if packed else b""), gzip.compress(text) if packed else text) >= 10


@pytest.mark.parametrize("size", [1_200, 131_072])
def test_an_ordinary_piece_is_passed_at_once(size: int) -> None:
    meter = Meter("single", b"")
    head = body()[:-100]
    assert passed(meter, head + b"x" * (60_000 - len(head))) == 0
    assert passed(meter, b"x" * 131_072) == 1  # beyond the window, its head is looked at
    assert passed(meter, b"x" * size) == 0


def test_a_bomb_is_neither_held_nor_followed() -> None:
    """200 MB of zeros in 200 KB: given up on after a few MiB, of which two windows and two steps are held at most."""
    deflater = zlib.compressobj(9, wbits=31)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(200)) + deflater.flush()
    meter = Meter("single", b"gzip")
    tracemalloc.start()
    try:
        for start in range(0, len(bomb), 65_536):
            passed(meter, bomb[start : start + 65_536])
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert meter.finish(True).unreadable
    assert meter.seen == len(bomb)
    assert held < 2 << 20


@given(st.sampled_from([b"gzip", b"deflate", b"identity"]), st.sampled_from(["single", "sse", "array"]), st.data())
def test_no_bytes_at_all_make_it_raise(encoding: bytes, framing: str, data: st.DataObject) -> None:
    meter = Meter(framing, encoding)
    passed(meter, *data.draw(st.lists(st.binary(max_size=40), max_size=5)))
    assert meter.finish(True).usage is None
