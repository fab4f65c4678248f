"""What a scanner must say of a response, worked out slowly and plainly.

First what a response contains: a tokenizer that steps byte by byte, and builds the whole tree. Then what of it a
scanner may be held to; these are all of its rules, and it shares no code with the scanner.

1. Of a document no longer than the window, everything that came whole is seen.
2. Of a longer one, what ended within its first `window` bytes is; and, if nothing of it is missing, whatever begins
   (with its name) behind the first of its last `window` bytes, for that one may have been escaped.
3. Images and searches are counted wherever they stand: an image where its type is plain, or with `grounding` where the
   type has ended. Where they broke off, documents within the window count none.
4. With `grounding`, the first candidate's finish reason is seen wherever it stands; else the first that is seen.
5. Of what is said twice the last counts, a usage without any count put aside; of searches and look-ups, the document
   that said most, and of those that said as much the one with most look-ups.
6. In a longer document, a value of thousands of tokens needn't be read; none is made here.
7. A usage that isn't seen is `unseen`, unless the document came whole and is no longer than the window.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from proxy.gemini.reading import Reading

Path = tuple[str | int, ...]


class Value(NamedTuple):
    """One value of a document: where it stands in the tree and in the text. `begin` is where its name begins."""

    path: Path
    begin: int
    start: int
    end: int
    raw: bytes


@lru_cache(maxsize=64)
def values(text: bytes) -> tuple[list[Value], int]:
    """Every value of the document that the text begins with, outer ones after inner ones, and the index past it."""
    out: list[Value] = []
    at = _blank(text, 0)
    return out, _value(text, at, at, (), out)


def _value(text: bytes, begin: int, at: int, path: Path, out: list[Value]) -> int:
    mark = text[at : at + 1] or text[at]
    if mark == b'"':
        end = _string(text, at)
    elif mark == b"{":
        end = _object(text, at, path, out)
    elif mark == b"[":
        end = _array(text, at, path, out)
    else:
        end = at
        while text[end] not in b" \t\r\n,]}":
            end += 1
    out.append(Value(path, begin, at, end, text[at:end]))
    return end


def _string(text: bytes, at: int) -> int:
    at += 1
    while text[at] != ord('"'):
        at += 2 if text[at] == ord("\\") else 1
    return at + 1


def _object(text: bytes, at: int, path: Path, out: list[Value]) -> int:
    at = _blank(text, at + 1)
    while text[at] != ord("}"):
        begin, end = at, _string(text, at)
        name = json.loads(text[begin:end])
        at = _blank(text, _blank(text, end) + 1)
        at = _blank(text, _value(text, begin, at, (*path, name), out))
        if text[at] == ord(","):
            at = _blank(text, at + 1)
    return at + 1


def _array(text: bytes, at: int, path: Path, out: list[Value]) -> int:
    at, index = _blank(text, at + 1), 0
    while text[at] != ord("]"):
        at = _blank(text, _value(text, at, at, (*path, index), out))
        index += 1
        if text[at] == ord(","):
            at = _blank(text, at + 1)
    return at + 1


def _blank(text: bytes, at: int) -> int:
    while text[at : at + 1] in (b" ", b"\t", b"\r", b"\n"):
        at += 1
    return at


def single(text: bytes, cut: int, window: int, grounding: bool) -> Reading:
    """Of a single response `text` that broke off after `cut` bytes, or came whole."""
    reading = Reading()
    reading.complete = document(text, cut, window, grounding, reading) and cut == len(text)
    return reading


def document(text: bytes, cut: int, window: int, grounding: bool, reading: Reading) -> bool:
    """Adds what a document says, of which `cut` bytes came, to what earlier ones said. True if it came whole."""
    said, end = values(text)
    whole = cut >= end
    fits = cut <= window

    def is_seen(value: Value) -> bool:
        if fits or value.end <= min(window, cut):
            return value.end <= cut
        return cut == len(text) and value.begin > cut - window

    seen = sorted((value for value in said if is_seen(value)), key=lambda value: value.begin)
    usages = [raw for raw in _at(seen, "usageMetadata") if raw.startswith(b"{")]
    reading.unseen |= not (fits and whole)
    if usages and (reading.usage is None or any(str(digit).encode() in usages[-1] for digit in range(1, 10))):
        reading.usage, reading.unseen = usages[-1], False
    for reading.model_version in _texts(seen, "modelVersion"):
        pass
    for reading.response_id in _texts(seen, "responseId"):
        pass
    walked = [value for value in said if value.end <= cut] if grounding and not fits else seen
    reasons = [*_texts(walked, "candidates", 0, "finishReason"), *_texts(seen, "candidates", None, "finishReason")]
    finished = bool(reasons)
    reasons += _texts(seen, "promptFeedback", "blockReason") if _at(seen, "promptFeedback") else []
    reading.blocked = not finished if reasons else reading.blocked
    reading.finish_reason = reasons[0] if reasons else reading.finish_reason
    reading.errored |= any(raw != b"null" for raw in _at(seen, "error"))
    images = [(value, begun) for value in said if (begun := _image(value))]
    if whole or not fits:
        reading.images += sum((value.end if grounding else begun) <= cut for value, begun in images)
    if whole or not fits:
        _count_grounding([value for value in said if value.start < cut], reading)
    return whole and (fits or cut == len(text))


def _count_grounding(said: list[Value], reading: Reading) -> None:
    """Queries are look-ups where all sources are places; where some are, one look-up was made besides."""
    searches = maps = 0
    for index in {value.path[1] for value in said if _matches(value.path, ("candidates", None))}:
        grounding = "candidates", index, "groundingMetadata"
        queries = sum(
            _matches(value.path, (*grounding, name, None))
            for value in said
            for name in ("webSearchQueries", "imageSearchQueries")
        )
        kinds = {
            kind
            for value in said
            for kind in ("maps", "web", "image")
            if _matches(value.path, (*grounding, "groundingChunks", None, kind)) and value.raw.startswith(b"{")
        }
        if "maps" not in kinds:
            searches += queries
        elif kinds == {"maps"}:
            maps += max(queries, 1)
        else:
            searches, maps = searches + queries, maps + 1
    seen = reading.searches + reading.maps
    if searches + maps > seen or (searches + maps == seen and maps > reading.maps):
        reading.searches, reading.maps = searches, maps


def _image(value: Value) -> int:
    """Where it is plain that the value is an image's MIME type: past the slash. 0 if it is none."""
    part = ("candidates", None, "content", "parts", None)
    kind = re.match(rb'"image\\?/', value.raw)
    named = any(_matches(value.path, (*part, name, "mimeType")) for name in ("inlineData", "fileData"))
    return value.start + kind.end() if kind and named else 0


def _matches(path: Path, pattern: tuple[str | int | None, ...]) -> bool:
    """None stands for any index."""
    return len(path) == len(pattern) and all(
        p == q or (q is None and isinstance(p, int)) for p, q in zip(path, pattern, strict=True)
    )


def _at(seen: list[Value], *pattern: str | int | None) -> list[bytes]:
    return [value.raw for value in seen if _matches(value.path, pattern)]


def _texts(seen: list[Value], *pattern: str | int | None) -> Iterator[str]:
    for raw in _at(seen, *pattern):
        text: Any = json.loads(raw)
        if isinstance(text, str):
            yield text


def sse(stream: bytes, cut: int, window: int, grounding: bool) -> Reading:
    """Of a stream of events, by the lines of what came of it."""
    reading = Reading(complete=cut == len(stream))
    *lines, rest = re.split(rb"\r\n|\r|\n", stream[:cut])
    if reading.complete:
        lines += [rest, b""]
    data: list[bytes] = []
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:])
        elif not line and data:
            text = b"\n".join(data)
            data = []
            document(text, len(text), window, grounding, reading)
    reading.unseen |= not reading.complete
    return reading


def array(stream: bytes, cut: int, window: int, grounding: bool) -> Reading:
    """Of an array's elements, those that came whole."""
    reading = Reading()
    said, end = values(stream)
    for value in said:
        if len(value.path) == 1 and value.end <= cut:
            document(value.raw, len(value.raw), window, grounding, reading)
    reading.complete = cut == len(stream)
    reading.unseen |= cut < end
    return reading
