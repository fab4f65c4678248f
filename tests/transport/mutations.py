"""Responses that nobody would think of: the corpus mutated, and messages drawn from a grammar that has slipped."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import strategies as st

from tests.transport.corpus import CASES

SEEDS = [case for case in CASES if len(case.wire) < 3000]
"""What is longer is about a bound, and would take the time of a hundred others."""
METHODS = (b"GET", b"POST", b"HEAD")
# fmt: off
FRAGMENTS = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\t", b" ", b":", b";", b",", b"0", b"1", b"5", b"f", b"\0", b"\x01",
    b"\x0b", b"\x7f", b"\x80", b"\xa0", b"\xff", b"0\r\n\r\n", b"5\r\nhello\r\n", b"\r\n ", b"chunked", b", chunked",
    b"Content-Length: 5\r\n", b"content-length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:",
    b"transfer-encoding: identity\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"HTTP/1.1 ",
    b"HTTP/1.0 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 x\r\n", b"10000000000000000",
    b"99999999999999999999",
)
# fmt: on
Random = random.Random


def mutated(chance: Random) -> tuple[bytes, bytes]:
    """A response and the method of the request that it answers."""
    case = chance.choice(SEEDS)
    wire = case.wire
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        wire = chance.choice(MUTATIONS)(wire, chance)
    return wire[:6000], case.method if chance.random() < 0.9 else chance.choice(METHODS)


def _at(wire: bytes, chance: Random) -> int:
    return chance.randint(0, len(wire))


def _span(wire: bytes, chance: Random) -> tuple[int, int]:
    start = _at(wire, chance)
    return start, min(len(wire), start + chance.choice((1, 1, 2, 3, 8, 40, len(wire))))


def flip(wire: bytes, chance: Random) -> bytes:
    """Another byte in place of one."""
    at = _at(wire, chance)
    return wire[:at] + bytes([chance.randrange(256)]) + wire[at + 1 :]


def insert(wire: bytes, chance: Random) -> bytes:
    at = _at(wire, chance)
    return wire[:at] + chance.choice(FRAGMENTS) + wire[at:]


def replace(wire: bytes, chance: Random) -> bytes:
    start, end = _span(wire, chance)
    return wire[:start] + chance.choice(FRAGMENTS) + wire[end:]


def delete(wire: bytes, chance: Random) -> bytes:
    start, end = _span(wire, chance)
    return wire[:start] + wire[end:]


def duplicate(wire: bytes, chance: Random) -> bytes:
    """A piece of it once more, somewhere."""
    start, end = _span(wire, chance)
    at = _at(wire, chance)
    return wire[:at] + wire[start:end] + wire[at:]


def duplicate_line(wire: bytes, chance: Random) -> bytes:
    lines = wire.splitlines(keepends=True) or [b""]
    lines.insert(chance.randint(0, len(lines)), chance.choice(lines))
    return b"".join(lines)


def shuffle_lines(wire: bytes, chance: Random) -> bytes:
    lines = wire.split(b"\r\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def swap_case(wire: bytes, chance: Random) -> bytes:
    start, end = _span(wire, chance)
    return wire[:start] + wire[start:end].swapcase() + wire[end:]


def cut(wire: bytes, chance: Random) -> bytes:
    return wire[: _at(wire, chance)]


def join(wire: bytes, chance: Random) -> bytes:
    """Another response behind it."""
    return wire + chance.choice(SEEDS).wire


def splice(wire: bytes, chance: Random) -> bytes:
    """The beginning of one and the end of another."""
    other = chance.choice(SEEDS).wire
    return wire[: _at(wire, chance)] + other[_at(other, chance) :]


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    flip, insert, replace, delete, duplicate, duplicate_line, shuffle_lines, swap_case, cut, join, splice,
)  # fmt: skip


def _join(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def _mostly(right: bytes, *wrong: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from((right,) * (3 * len(wrong)) + wrong)


_CRLF = _mostly(b"\r\n", b"\n", b"\r", b"\r\r\n", b"")
_STATUS_LINE = _join(
    _mostly(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 "),
    _mostly(b" ", b"\t", b""),
    st.sampled_from([b"200", b"200", b"204", b"304", b"100", b"103", b"101", b"404", b"600", b"20", b"2000"]),
    st.sampled_from([b" OK", b" ", b"", b" \xff", b" \x0b"]),
    _CRLF,
)
_FIELD = _join(
    st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Connection", b"X", b"transfer-encoding", b"", b" X"]),
    _mostly(b": ", b":", b" :", b":\t", b""),
    st.sampled_from([b"0", b"5", b"5", b"05", b"+5", b"5, 5", b"", b"chunked", b"chunked", b"Chunked ", b"identity"])
    | st.sampled_from([b"gzip, chunked", b"close", b"keep-alive", b"\xe9", b"a\x01", b"x\r\n y"]),
    _CRLF,
)
_HEAD = _join(_STATUS_LINE, st.lists(_FIELD, max_size=3).map(b"".join), _CRLF)
_CHUNK = _join(
    st.sampled_from([b"5", b"5", b"05", b"5;a=b", b"5 ", b"0x5", b"4", b"6", b"0", b"-5", b"5;\n", b"0" * 15 + b"5"]),
    _CRLF,
    st.just(b"hello"),
    _CRLF,
)
_CHUNKS = _join(st.lists(_CHUNK, max_size=3).map(b"".join), _mostly(b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n", b""))
GRAMMAR = _join(
    st.lists(_HEAD, max_size=2).map(b"".join), _HEAD, st.sampled_from([b"hello", b"hell", b"hello!", b""]) | _CHUNKS
)
