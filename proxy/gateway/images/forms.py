"""A form (multipart/form-data) that is held whole: its fields and files, bounded in number and in size."""

from __future__ import annotations

from typing import Any, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from proxy.gateway.images.requests import MOST_REFERENCES, PICTURES, wrong

MOST_PARTS = 64
LONGEST_FIELD = 256 * 1024
"""Bytes of a text. The longest prompt takes half of it."""
_PIECE = 1 << 20
"""Bytes that are parsed at once: nothing is copied but these, and what they hold."""


class File(NamedTuple):
    """A file of a form. Its name and its type are what the client says, and nothing here trusts them."""

    param: str
    content: bytes


class Form(NamedTuple):
    """Fields by name (a name that comes twice has its last value), and files in order."""

    fields: dict[str, str]
    files: list[File]


def boundary(content_type: bytes) -> bytes:
    """What parts the form. Raises CallerErred where the header names none."""
    found = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not found or len(found) > 200:
        raise wrong(
            "",
            "The Content-Type names no boundary. Let your HTTP client set it: with curl that is -F, and no -H for it.",
        )
    return found


def parse(body: Any, content_type: bytes) -> Form:
    """Takes a body apart: in a thread, for it takes a few milliseconds a megabyte. Raises CallerErred."""
    reader = _Reader()
    try:
        parser = MultipartParser(boundary(content_type), reader.callbacks())  # type: ignore[arg-type]
        with memoryview(body) as view:
            for start in range(0, len(view), _PIECE):
                parser.write(bytes(view[start : start + _PIECE]))
    except FormParserError as error:
        raise wrong("", f"The form can't be read ({error}).") from None
    if not reader.ended:
        raise wrong("", "The form ends in the midst of a part: the last boundary is missing. Send all of it.")
    return Form(reader.fields, reader.files)


class _Reader:
    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[File] = []
        self.ended = False
        self._parts = 0
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._pieces: list[bytes] = []
        self._length = 0

    def callbacks(self) -> dict[str, Any]:
        names = (
            "part_begin",
            "part_data",
            "part_end",
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
        )
        return {f"on_{name}": getattr(self, f"_{name}") for name in (*names, "end")}

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise wrong("", f"The form has more than {MOST_PARTS} parts. Send a part for each picture and parameter.")
        self._disposition, self._pieces, self._length = b"", [], 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise wrong("", 'A part of the form has no name: each needs Content-Disposition: form-data; name="…".')
        self._name = options[b"name"].decode("utf-8", "replace")
        self._is_file = b"filename" in options or self._name in PICTURES
        if self._is_file and self._name not in PICTURES:
            raise wrong(self._name[:40], f"Files are taken as {', '.join(PICTURES)}, and under no other name.")
        if self._is_file and len(self.files) > MOST_REFERENCES:
            raise wrong(self._name, f"More than {MOST_REFERENCES} pictures are given; that many are taken.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._length += end - start
        if not self._is_file and self._length > LONGEST_FIELD:
            raise wrong(self._name[:40], f"A text of the form is longer than {LONGEST_FIELD} bytes.")
        self._pieces.append(data[start:end])

    def _part_end(self) -> None:
        content = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        if self._is_file:
            self.files.append(File(self._name, content))
            return
        try:
            self.fields[self._name] = content.decode()
        except UnicodeDecodeError:
            raise wrong(self._name[:40], "A text of the form is not UTF-8.") from None

    def _end(self) -> None:
        self.ended = True
