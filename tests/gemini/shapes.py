"""Texts that make much work of few bytes: for the counts in test_scanner.py, and for `python -m bench.holds`."""

from __future__ import annotations

from collections.abc import Iterator

SHAPES: dict[str, tuple[bytes, bytes, bytes]] = {
    "base64": (b'{"x":"', b"QUJD", b'"}'),
    "numbers": (b'{"x":[', b"1,", b"1]}"),
    "empty texts": (b'{"x":[', b'"",', b'""]}'),
    "short texts": (b'{"x":[', b'"a\\n",', b'""]}'),
    "quotes": (b'{"x":"', b'\\"', b'"}'),
    "backslashes": (b'{"x":"', b"\\\\", b'"}'),
    "two bytes": (b'{"x":"', "é".encode(), b'"}'),
    "brackets": (b'{"x":[', b"[],", b"[]]}"),
    "braces": (b'{"x":[', b"{},", b"{}]}"),
    "brackets and texts": (b'{"x":[', b'["a"],', b"[]]}"),
    "members": (b'{"x":[', b'{"a":[]},', b"{}]}"),
    "names": (b"{", b'"a":1,', b'"a":1}'),
    "long names": (b"{", b'"%b":1,' % (b"n" * 500), b'"a":1}'),
    "wanted names": (b"{", b'"usageMetadata":1,', b'"a":1}'),
    "usages in arguments": (b'{"x":[', b'{"usageMetadata":{}},', b"1]}"),
    "usages": (b"{", b'"usageMetadata":{},', b'"a":1}'),
    "wanted texts": (b'{"x":[', b'"usageMetadata",', b"1]}"),
    "white space": (b'{"x":', b" ", b"1}"),
    "commas": (b'{"x":[', b",", b"1]}"),
    "deep": (b'{"x":', b"[", b"1}"),
    "deep and back": (b'{"x":', b"[[[[[[[[[[]]]]]]]]]],", b"1}"),
    "never closed": (b'{"x":', b"[" + b'"a",' * 300, b"1}"),
    "candidates": (b'{"candidates":[', b"{},", b"{}]}"),
    "parts": (b'{"candidates":[{"content":{"parts":[', b"{},", b"{}]}}]}"),
    "pictures": (b'{"candidates":[{"content":{"parts":[', b'{"inlineData":{"mimeType":"image/png"}},', b"{}]}}]}"),
    "MIME types": (b'{"x":[', b'"mimeType",', b"1]}"),
    "searches": (b'{"candidates":[{"groundingMetadata":{"webSearchQueries":[', b'"",', b'""]}}]}'),
    "sources": (b'{"candidates":[{"groundingMetadata":{"groundingChunks":[', b'{"maps":{}},', b"{}]}}]}"),
    "groundings": (b'{"candidates":[', b'{"groundingMetadata":{}},', b"{}]}"),
    "reasons": (b'{"candidates":[', b'{"finishReason":""},', b"{}]}"),
    "no JSON": (b"", b"x", b""),
    "zeros": (b"", b"\0", b""),
}
STREAMS: dict[str, tuple[str, bytes]] = {
    "line feeds": ("sse", b"\n"),
    "carriage returns": ("sse", b"\r"),
    "both": ("sse", b"\r\n"),
    "comments": ("sse", b":\n"),
    "empty data": ("sse", b"data:\n"),
    "data of a byte": ("sse", b"data:1\n"),
    "empty events": ("sse", b"data:\n\n"),
    "tiny events": ("sse", b"data:{}\n\n"),
    "broken events": ("sse", b"data:{\n\n"),
    "short events": ("sse", b'data:{"candidates":[{}],"usageMetadata":{}}\n\n'),
    "tiny elements": ("array", b"{},"),
    "short elements": ("array", b'{"candidates":[{}],"usageMetadata":{}},'),
    "element gaps": ("array", b", "),
}


def filled(before: bytes, unit: bytes, after: bytes, size: int) -> bytes:
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def texts(short: int, long: int) -> Iterator[tuple[str, str, bytes]]:
    """Name, framing and text. Of each document two, of about `short` and `long` bytes; of streams a long one."""
    wrapped = {"single": (b"", b""), "sse": (b"data:", b"\n\n"), "array": (b"[", b"]")}
    for name, shape in SHAPES.items():
        for size in (short, long):
            for framing, (begin, end) in wrapped.items():
                yield name, framing, begin + filled(*shape, size) + end
    for name, (framing, unit) in STREAMS.items():
        yield name, framing, filled(b"[" if framing == "array" else b"", unit, b"", long)
    many = filled(*SHAPES["candidates"], short)
    for framing, text in (("sse", b"data:" + many + b"\n\n"), ("array", many + b",")):
        yield "many candidates", framing, (b"[" if framing == "array" else b"") + text * (long // len(text))
