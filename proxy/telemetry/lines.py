"""A log event as the line that is written: a JSON object, or for people. Nothing in it can begin another line."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Mapping, Set
from typing import Any

import msgspec

from proxy.telemetry import redaction

LONGEST = 16_384
"""Characters of a text in a line; of a longer one, the beginning and the end."""
DEEPEST = 6
"""Values within values; what is deeper is told by its type."""
MOST_VALUES = 200
"""Of one list or object."""
_PLAIN = frozenset({int, float, bool, type(None)})
_BARE = re.compile(r"[^\s\"'=\\\[\]{}]+").fullmatch
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}
_FAILED = b'{"level":"error","event":"log_line_failed"}'

_encoder = msgspec.json.Encoder()


def encoded(event: dict[str, Any]) -> bytes:
    """An event as JSON, whatever its values are; not redacted yet. Never raises."""
    try:
        for name, value in event.items():
            kind = type(value)
            if kind is str:
                if len(value) > LONGEST:
                    event[name] = redaction.shortened(value, LONGEST)
            elif kind not in _PLAIN:
                event[name] = _told(value)
        return _encode(event)
    except Exception:  # a line must not fail the call that it tells of
        return _FAILED


def as_json(line: bytes) -> bytes:
    """What `encoded` made, redacted, as it is written. Nothing that a terminal would obey is in it. Never raises."""
    try:
        text = line.decode()
        if redaction.suspicious(text):
            text = _encode(redaction.redacted(_decode(line))).decode()
        line = _harmless(text).encode()
    except Exception:  # better no line than one with a secret in it, or no more lines
        line = _FAILED
    return line + b"\n"


def for_people(line: bytes, *, colour: bool = False) -> bytes:
    """The same to be read: time, level, event, name=value …, and a traceback's lines, indented. Never raises."""
    try:
        event: Any = _decode(line)
        if redaction.suspicious(line.decode()):
            event = redaction.redacted(event)
        return _readable(event, colour=colour).encode()
    except Exception:
        return _FAILED + b"\n"


def _readable(event: dict[str, Any], *, colour: bool) -> str:
    at, level, what = (str(event.pop(name, "")) for name in ("timestamp", "level", "event"))
    exception = event.pop("exception", None)
    fields = [f"{_word(name)}={_shown(value)}" for name, value in event.items()]
    begins, ends = (_COLOURS[level], "\x1b[0m") if colour and level in _COLOURS else ("", "")
    said = [*([_word(at)] if at else []), f"{begins}{_word(level):<8}{ends}", _word(what), *fields]
    lines = [" ".join(said)]
    if exception is not None:
        lines += [f"    | {_harmless(line)}" for line in str(exception).splitlines()]
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    return _word(value) if isinstance(value, str) else _harmless(_encode(value).decode())


def _word(text: str) -> str:
    """A text that ends where the next blank is: in quotes, where it wouldn't."""
    return text if text.isprintable() and _BARE(text) else _harmless(json.dumps(text, ensure_ascii=False))


def _harmless(text: str) -> str:
    """Escaped as in JSON: line ends of any kind, what a terminal obeys, and what turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else json.dumps(each)[1:-1] for each in text])


def _encode(value: object) -> bytes:
    try:
        return _encoder.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value).encode()  # half a surrogate pair, a number of more than 64 bits


def _decode(line: bytes) -> object:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(line)


def _told(value: object, depth: int = 0) -> object:
    """A value as JSON has it; of what JSON doesn't know, its text."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return redaction.shortened(str(value), LONGEST)
    if isinstance(value, bytes | bytearray | memoryview):
        return redaction.shortened(bytes(value).decode("utf-8", "backslashreplace"), LONGEST)
    if depth == DEEPEST:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {_name(name): _told(each, depth + 1) for name, each in [*value.items()][:MOST_VALUES]}
    if isinstance(value, list | tuple | Set):
        return [_told(each, depth + 1) for each in [*value][:MOST_VALUES]]
    return _text_of(value)


def _name(name: object) -> str:
    return str(_told(name, DEEPEST - 1))


def _text_of(value: object) -> str:
    try:
        if isinstance(value, BaseException):
            text = "".join(traceback.format_exception_only(value)).strip()
        else:
            text = str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose text can't be had: {type(error).__name__}>"
    return redaction.shortened(text, LONGEST)
