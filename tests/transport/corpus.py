"""Responses as bytes, valid, odd and meant to be misread, each with what we make of it. Behind each comes a close."""

from __future__ import annotations

from typing import NamedTuple

from proxy.upstreams.framing import MAX_CHUNK_LINE, MAX_TRAILERS
from proxy.upstreams.heads import MAX_FIELDS, MAX_HEAD
from proxy.upstreams.incoming import MAX_INTERIM


class Case(NamedTuple):
    """A response; `body` is what is given out of it, None where it is refused in its head."""

    name: str
    wire: bytes
    body: bytes | None
    ending: str = "complete"
    reusable: bool = True
    method: bytes = b"GET"


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nFORGE"
"""What somebody would have taken for the answer to the call after this one."""


def length(fields: bytes = b"", body: bytes = b"hello", count: int = 5, start: bytes = OK) -> bytes:
    return start + b"Content-Length: %d\r\n" % count + fields + b"\r\n" + body


def head(fields: bytes, body: bytes = b"5\r\nhello\r\n0\r\n\r\n", start: bytes = OK) -> bytes:
    return start + fields + b"\r\n" + body


def refused(name: str, wire: bytes, body: bytes | None = None) -> Case:
    return Case(name, wire, body, "refused", False)


def last(name: str, wire: bytes, body: bytes, method: bytes = b"GET") -> Case:
    """Whole, and the last on its connection."""
    return Case(name, wire, body, "complete", False, method)


def cut(name: str, wire: bytes, body: bytes | None) -> Case:
    return Case(name, wire, body, "cut", False)


LENGTHS = [
    Case("length", length(), b"hello"),
    Case("length zero", length(b"", b"", 0), b""),
    Case("length with leading zeros", OK + b"Content-Length: 0005\r\n\r\nhello", b"hello"),
    Case("length with blanks around it", OK + b"Content-Length: \t 5\t \r\n\r\nhello", b"hello"),
    Case("length without a blank", OK + b"Content-Length:5\r\n\r\nhello", b"hello"),
    Case("length in capitals", OK + b"CONTENT-LENGTH: 5\r\n\r\nhello", b"hello"),
    cut("length cut in the body", length(b"", b"hel"), b"hel"),
    cut("length cut before the body", length(b"", b""), b""),
    last("length with excess", length() + b"!", b"hello"),
    last("length with another response behind it", length() + NEXT, b"hello"),
    refused("length twice and the same", OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    refused("length twice and not the same", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    refused("length twice in one field", OK + b"Content-Length: 5, 5\r\n\r\nhello"),
    refused("length twice in one field and not the same", OK + b"Content-Length: 5,6\r\n\r\nhello!"),
    refused("length empty", OK + b"Content-Length:\r\n\r\nhello"),
    refused("length in hex", OK + b"Content-Length: 0x5\r\n\r\nhello"),
    refused("length with a plus", OK + b"Content-Length: +5\r\n\r\nhello"),
    refused("length with a minus", OK + b"Content-Length: -5\r\n\r\nhello"),
    refused("length as a fraction", OK + b"Content-Length: 5.0\r\n\r\nhello"),
    refused("length as Python writes it", OK + b"Content-Length: 1_0\r\n\r\nhello"),
    refused("length in other digits", OK + b"Content-Length: \xd9\xa5\r\n\r\nhello"),
    refused("length with a blank in it", OK + b"Content-Length: 1 0\r\n\r\nhello"),
    refused("length behind a vertical tab", OK + b"Content-Length: \x0b5\r\n\r\nhello"),
    refused("length with a NUL", OK + b"Content-Length: 5\0\r\n\r\nhello"),
    refused("length of 2**64", OK + b"Content-Length: 18446744073709551616\r\n\r\n"),
    refused("length of 2**64 + 5", OK + b"Content-Length: 18446744073709551621\r\n\r\nhello"),
    Case("length of 18 digits", OK + b"Content-Length: 000000000000000005\r\n\r\nhello", b"hello"),
    refused("length of 19 digits", OK + b"Content-Length: 0000000000000000005\r\n\r\nhello"),
    refused("length of 21 digits that is small", OK + b"Content-Length: 000100000000000000005\r\n\r\nhello"),
    refused("length of 21 digits", OK + b"Content-Length: 100000000000000000000\r\n\r\n"),
]

CODINGS = [
    Case("chunks", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    Case("chunked in capitals", head(b"Transfer-Encoding: CHUNKED\r\n"), b"hello"),
    Case("chunked behind tabs", head(b"Transfer-Encoding:\t\tchunked\r\n"), b"hello"),
    Case("chunked before a tab", head(b"Transfer-Encoding: chunked\t\r\n"), b"hello"),
    refused("chunked beside a length", length(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n")),
    refused("a length beside chunked", head(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
    refused("chunked before a tab beside a length", length(b"Transfer-Encoding: chunked\t\r\n", b"0\r\n\r\n")),
    refused("chunked twice", head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
    refused("chunked twice in one field", head(b"Transfer-Encoding: chunked, chunked\r\n")),
    refused("chunked and identity", head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
    refused("identity", head(b"Transfer-Encoding: identity\r\n")),
    refused("identity and chunked", head(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n")),
    refused("gzip", head(b"Transfer-Encoding: gzip\r\n")),
    refused("gzip, chunked", head(b"Transfer-Encoding: gzip, chunked\r\n")),
    refused("chunked, gzip", head(b"Transfer-Encoding: chunked, gzip\r\n")),
    refused("a coding without a name", head(b"Transfer-Encoding:\r\n")),
    refused("chunked behind a comma", head(b"Transfer-Encoding: ,chunked\r\n")),
    refused("chunked before a comma", head(b"Transfer-Encoding: chunked,\r\n")),
    refused("chunked with a parameter", head(b"Transfer-Encoding: chunked;q=1\r\n")),
    refused("chunked in quotes", head(b'Transfer-Encoding: "chunked"\r\n')),
    refused("chunked misspelled", head(b"Transfer-Encoding: chunkedd\r\n")),
    refused("xchunked", head(b"Transfer-Encoding: xchunked\r\n")),
    refused("chunked behind a vertical tab", head(b"Transfer-Encoding: \x0bchunked\r\n")),
    refused("chunked behind a no-break space", head(b"Transfer-Encoding: \xa0chunked\r\n")),
    refused("chunked behind a NUL", head(b"Transfer-Encoding: \0chunked\r\n")),
    refused("chunked with a Kelvin sign", head("Transfer-Encoding: chun\u212aed\r\n".encode())),
    refused("chunked on a folded line", head(b"Transfer-Encoding:\r\n chunked\r\n")),
    refused("chunked behind a bare CR", head(b"X: y\rTransfer-Encoding: chunked\r\n")),
    refused("chunked behind a bare LF", head(b"X: y\nTransfer-Encoding: chunked\r\n")),
    refused("a blank before the coding's colon", head(b"Transfer-Encoding : chunked\r\n")),
    refused("a tab before the coding's colon", head(b"Transfer-Encoding\t: chunked\r\n")),
    refused("chunked in HTTP/1.0", head(b"Transfer-Encoding: chunked\r\n", start=b"HTTP/1.0 200 OK\r\n")),
    last("a field that only looks like a coding", head(b"Transfer_Encoding: chunked\r\n", b"0\r\n\r\n"), b"0\r\n\r\n"),
]

CHUNKS = [
    Case("no chunk", CHUNKED + b"0\r\n\r\n", b""),
    Case("two chunks", CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", b"hello!"),
    Case(
        "sizes in hex of both cases",
        CHUNKED + b"a\r\n0123456789\r\nB\r\nabcdefghijk\r\n0\r\n\r\n",
        b"0123456789abcdefghijk",
    ),
    Case("sizes with leading zeros", CHUNKED + b"0000005\r\nhello\r\n000\r\n\r\n", b"hello"),
    Case("a chunk that looks like the end", CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    Case("extensions", CHUNKED + b'5;a;b=c;d="e;f"\r\nhello\r\n0;z\r\n\r\n', b"hello"),
    Case("an empty extension", CHUNKED + b"5;\r\nhello\r\n0\r\n\r\n", b"hello"),
    Case("extensions up to their bound", CHUNKED + b"5;%b\r\nhello\r\n0\r\n\r\n" % (b"e" * MAX_CHUNK_LINE), b"hello"),
    Case("trailers", CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"hello"),
    Case("trailers up to their bound", CHUNKED + b"0\r\nX:%b\r\n\r\n" % (b"y" * (MAX_TRAILERS - 6)), b""),
    last("chunks with excess", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n\r\n", b"hello"),
    last("chunks with another response behind them", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + NEXT, b"hello"),
    cut("chunks cut in a size", CHUNKED + b"5", b""),
    cut("chunks cut in a chunk", CHUNKED + b"5\r\nhel", b"hel"),
    cut("chunks cut behind a chunk", CHUNKED + b"5\r\nhello", b"hello"),
    cut("chunks cut before the last", CHUNKED + b"5\r\nhello\r\n", b"hello"),
    cut("chunks cut in the last", CHUNKED + b"5\r\nhello\r\n0\r\n", b"hello"),
    cut("chunks cut in the trailers", CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n", b"hello"),
    refused("a blank behind a size", CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", b""),
    refused("a tab before an extension", CHUNKED + b"5\t;a\r\nhello\r\n0\r\n\r\n", b""),
    refused("a blank before a size", CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size with 0x", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size with a plus", CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size with a minus", CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size as Python writes it", CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n", b""),
    refused("an empty size", CHUNKED + b"\r\nhello\r\n0\r\n\r\n", b""),
    refused("an extension without a size", CHUNKED + b";5\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size that is no number", CHUNKED + b"G\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size with a NUL", CHUNKED + b"5\0\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size of 2**60", CHUNKED + b"1000000000000000\r\n", b""),
    refused("a size of 2**64 + 5", CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size of 16 digits that is small", CHUNKED + b"0000000000000005\r\nhello\r\n0\r\n\r\n", b""),
    refused("a size that ends in LF", CHUNKED + b"5\nhello\r\n0\r\n\r\n", b""),
    refused("a size that ends in CR", CHUNKED + b"5\rhello\r\n0\r\n\r\n", b""),
    refused("an extension that ends in LF", CHUNKED + b"5;a\nhello\r\n0\r\n\r\n", b""),
    refused("an extension with a bare CR", CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", b""),
    refused("an extension with a control character", CHUNKED + b"5;a\x01\r\nhello\r\n0\r\n\r\n", b""),
    refused(
        "extensions beyond their bound", CHUNKED + b"5;%b\r\nhello\r\n0\r\n\r\n" % (b"e" * (MAX_CHUNK_LINE + 1)), b""
    ),
    refused("a chunk without its line break", CHUNKED + b"5\r\nhello0\r\n\r\n", b"hello"),
    refused("a chunk that ends in LF", CHUNKED + b"5\r\nhello\n0\r\n\r\n", b"hello"),
    refused("a chunk that ends in CR", CHUNKED + b"5\r\nhello\r0\r\n\r\n", b"hello"),
    refused("a chunk that ends in CR CR LF", CHUNKED + b"5\r\nhello\r\r\n0\r\n\r\n", b"hello"),
    refused("a chunk longer than its size", CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", b"hell"),
    refused("a chunk shorter than its size", CHUNKED + b"6\r\nhello\r\n0\r\n\r\n", b"hello\r"),
    refused("a trailer that is no field", CHUNKED + b"0\r\n" + NEXT, b""),
    refused("a folded trailer", CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n", b""),
    refused("a blank before a trailer's colon", CHUNKED + b"0\r\nX : y\r\n\r\n", b""),
    refused("a trailer that ends in LF", CHUNKED + b"0\r\nX: y\n\r\n", b""),
    refused("trailers that end in LF", CHUNKED + b"0\r\nX: y\r\n\n", b""),
    refused("a trailer with a NUL", CHUNKED + b"0\r\nX: \0\r\n\r\n", b""),
    refused("a length in the trailers", CHUNKED + b"0\r\nContent-Length: 5\r\n\r\nhello", b""),
    refused("a coding in the trailers", CHUNKED + b"0\r\nTransfer-Encoding: gzip\r\n\r\n", b""),
    refused("trailers beyond their bound", CHUNKED + b"0\r\nX:%b\r\n\r\n" % (b"y" * (MAX_TRAILERS - 5)), b""),
]

BODILESS = [
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    Case("304", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b""),
    Case("205 with no length", b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", b""),
    Case("HEAD with a length", length(b"", b""), b"", method=b"HEAD"),
    Case("HEAD with chunked", CHUNKED, b"", method=b"HEAD"),
    Case("HEAD with neither", OK + b"\r\n", b"", method=b"HEAD"),
    last("HEAD with a body", length(), b"", method=b"HEAD"),
    last("HEAD with chunks", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"", method=b"HEAD"),
    last("204 with a body", b"HTTP/1.1 204 No Content\r\n\r\nhello", b""),
    last("204 with chunks", head(b"Transfer-Encoding: chunked\r\n", start=b"HTTP/1.1 204 x\r\n"), b""),
    last("304 with a body", length(start=b"HTTP/1.1 304 x\r\n"), b""),
]

ENDINGS = [
    last("until the close", OK + b"\r\nhello", b"hello"),
    last("until the close in HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    last("until the close, with another response in it", OK + b"\r\n" + NEXT, NEXT),
    last("HTTP/1.0 with a length", length(start=b"HTTP/1.0 200 OK\r\n"), b"hello"),
    last("HTTP/1.0 kept alive", length(b"Connection: keep-alive\r\n", start=b"HTTP/1.0 200 OK\r\n"), b"hello"),
    last("connection: close", length(b"Connection: close\r\n"), b"hello"),
    last("connection: Close among others", length(b"Connection: x , CLOSE,y\r\n"), b"hello"),
    last("connection: close in the second field", length(b"Connection: a\r\nConnection: close\r\n"), b"hello"),
    Case("connection: closed", length(b"Connection: closed\r\n"), b"hello"),
    Case("connection: keep-alive", length(b"Connection: keep-alive\r\n"), b"hello"),
    Case("an upgrade that is only offered", length(b"Upgrade: h2c\r\nConnection: upgrade\r\n"), b"hello"),
]

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
INTERIMS = [
    Case("100 before it", b"HTTP/1.1 100 Continue\r\n\r\n" + length(), b"hello"),
    Case("103 and 102 before it", INTERIM + b"HTTP/1.1 102 Processing\r\n\r\n" + length(), b"hello"),
    Case("199 before it", b"HTTP/1.1 199 x\r\n\r\n" + length(), b"hello"),
    Case("as many before it as are passed over", INTERIM * MAX_INTERIM + length(), b"hello"),
    Case("a length in the interim head", length(b"", b"", 0, b"HTTP/1.1 100 x\r\n") + length(), b"hello"),
    refused("a body in the interim response", length(start=b"HTTP/1.1 100 x\r\n") + length()),
    refused("more before it than are passed over", INTERIM * (MAX_INTERIM + 1) + length()),
    refused("interim heads that are long together", (INTERIM[:-2] + b"x: %b\r\n\r\n" % (b"y" * 9000)) * 8 + length()),
    refused("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    refused("101 without an upgrade", b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + length()),
    cut("nothing but interim responses", INTERIM, None),
]

STATUS_LINES = [
    Case("no reason phrase", length(start=b"HTTP/1.1 200 \r\n"), b"hello"),
    Case("not even a blank for one", length(start=b"HTTP/1.1 200\r\n"), b"hello"),
    Case("a reason phrase of any bytes", length(start=b"HTTP/1.1 200 \xc3\xa9 \x80\xff\t!\r\n"), b"hello"),
    Case("599", length(start=b"HTTP/1.1 599 x\r\n"), b"hello"),
    refused("600", length(start=b"HTTP/1.1 600 x\r\n")),
    refused("999", length(start=b"HTTP/1.1 999 x\r\n")),
    refused("099", length(start=b"HTTP/1.1 099 x\r\n")),
    refused("a status of two digits", length(start=b"HTTP/1.1 20 x\r\n")),
    refused("a status of four digits", length(start=b"HTTP/1.1 2000 x\r\n")),
    refused("a status that is no number", length(start=b"HTTP/1.1 2xx x\r\n")),
    refused("a status with a sign", length(start=b"HTTP/1.1 +20 x\r\n")),
    refused("no status", length(start=b"HTTP/1.1 OK\r\n")),
    refused("two blanks before the status", length(start=b"HTTP/1.1  200 OK\r\n")),
    refused("a tab before the status", length(start=b"HTTP/1.1\t200 OK\r\n")),
    refused("a NUL in the reason phrase", length(start=b"HTTP/1.1 200 O\0K\r\n")),
    refused("a control character in the reason phrase", length(start=b"HTTP/1.1 200 O\x0bK\r\n")),
    refused("an escape in the reason phrase", length(start=b"HTTP/1.1 200 \x1b[2J\r\n")),
    refused("a bare CR in the reason phrase", length(start=b"HTTP/1.1 200 O\rK\r\n")),
    refused("HTTP/2.0", length(start=b"HTTP/2.0 200 OK\r\n")),
    refused("HTTP/1.2", length(start=b"HTTP/1.2 200 OK\r\n")),
    refused("HTTP/1.10", length(start=b"HTTP/1.10 200 OK\r\n")),
    refused("HTTP/0.9", length(start=b"HTTP/0.9 200 OK\r\n")),
    refused("HTTP/1", length(start=b"HTTP/1 200 OK\r\n")),
    refused("http/1.1", length(start=b"http/1.1 200 OK\r\n")),
    refused("another protocol", b"RTSP/1.0 200 OK\r\n\r\n"),
    refused("a blank line before it", b"\r\n" + length()),
    refused("a blank before it", b" " + length()),
    refused("a byte order mark before it", b"\xef\xbb\xbf" + length()),
    refused("a request", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    refused("no head at all", b"<html>"),
    refused("a record of TLS", b"\x15\x03\x01\x00\x02\x02\x28"),
    cut("nothing", b"", None),
    cut("the beginning of a status line", b"HTTP/1.1 20", None),
    cut("a head without its end", OK + b"Content-Length: 5\r\n", None),
]

FIELDS = [
    Case("no fields", b"HTTP/1.1 204 x\r\n\r\n", b""),
    Case("an empty value", length(b"X:\r\nY: \r\n"), b"hello"),
    Case("a name of all characters that may be", length(b"!#$%&'*+-.^_`|~09azAZ: x\r\n"), b"hello"),
    Case("a value of any bytes", length(b"X: \x80\xff\xa0 \t!~\r\n"), b"hello"),
    Case("as many fields as are held", length(b"a: b\r\n" * (MAX_FIELDS - 1)), b"hello"),
    Case("a head as long as is held", length(b"x: %b\r\n" % (b"y" * (MAX_HEAD - 43)), b"hello"), b"hello"),
    refused("more fields than are held", length(b"a: b\r\n" * MAX_FIELDS)),
    refused("a head longer than is held", length(b"x: %b\r\n" % (b"y" * (MAX_HEAD - 42)), b"hello")),
    refused("a folded field", length(b"X: y\r\n z\r\n")),
    refused("a field folded by a tab", length(b"X: y\r\n\tz\r\n")),
    refused("a first field that is folded", OK + b" X: y\r\nContent-Length: 5\r\n\r\nhello"),
    refused("a folded line of blanks", length(b"X: y\r\n \r\n")),
    refused("a field without a colon", length(b"X\r\n")),
    refused("a field without a name", length(b": x\r\n")),
    refused("a name with a blank", length(b"X Y: z\r\n")),
    refused("a blank before the colon", length(b"X : y\r\n")),
    refused("a name with a NUL", length(b"X\0: y\r\n")),
    refused("a name with brackets", length(b"X(): y\r\n")),
    refused("a name that isn't ASCII", length(b"\xc3\xa9: y\r\n")),
    refused("a value with a NUL", length(b"X: \0\r\n")),
    refused("a value with a control character", length(b"X: \x01\r\n")),
    refused("a value with DEL", length(b"X: \x7f\r\n")),
    refused("a value with a bare CR", length(b"X: y\rZ: a\r\n")),
    refused("a bare CR at a value's end", length(b"X: y\r\r\n")),
    refused("a value that ends in LF", length(b"X: y\n")),
    refused("a status line that ends in LF", b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello"),
    refused("a head that ends in LF LF", OK + b"Content-Length: 5\n\nhello"),
    refused("a head that ends in CR LF LF", OK + b"Content-Length: 5\r\n\nhello"),
    refused("a head that ends in LF CR LF", OK + b"Content-Length: 5\n\r\nhello"),
    refused("a head all of whose lines end in LF", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    refused("a head that ends in CR CR", OK + b"Content-Length: 5\r\r\r\n\r\nhello"),
]

CASES = [*LENGTHS, *CODINGS, *CHUNKS, *BODILESS, *ENDINGS, *INTERIMS, *STATUS_LINES, *FIELDS]
