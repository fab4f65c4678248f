"""Which of Google's resources a request body names, and which model: read strictly, since Google's parser is lenient.

Google takes a field's name as fileUri and as file_uri, and a letter of it as an escape. What follows the one rule of
RFC 8259 is read alike by every parser; whatever doesn't is refused, never guessed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from proxy.errors import CallerErred, Reason
from proxy.gemini import spans

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

MAX_PARSED = 1 << 20
"""Bytes of text that are parsed: other calls wait meanwhile, for the interpreter is shared."""

_FIELDS = {"fileuri": "fileUri", "cachedcontent": "cachedContent", "filesearchstorenames": "fileSearchStoreNames"}
"""Those that name a resource, as `fold` gives them. A fileUri may also lead elsewhere."""

_MODEL_HOLDERS = {"batchEmbedContents": "requests", "countTokens": "generatecontentrequest"}
"""Where, beside the top level, a body names its model."""

_URI = re.compile(
    r"(?:[Hh][Tt][Tt][Pp][Ss]?|[Gg][Ss])://"
    r"(?P<host>[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
    r"(?:/[^\s\x00-\x1f\x7f\\]*|[?#][^\s\x00-\x1f\x7f\\@]*)?"
)


def parse(text: bytes | bytearray, upstream_hosts: frozenset[str]) -> Json:
    """A JSON document of at most MAX_PARSED bytes in UTF-8, of which every reference is checked.

    Strict: one document, no NaN, keys unique after unescaping and folding snake_case to camelCase, depth within
    Python's recursion limit. Raises CallerErred BAD_REQUEST, and RESOURCE_NOT_OWNED for a reference to what belongs to
    the upstream's credential.
    """
    if len(text) > MAX_PARSED:
        raise too_long()

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len({camel(key) for key in members}) != len(pairs):
            raise _bad("an object in it has the same key twice (file_uri and fileUri are the same)")
        for key, value in pairs:
            field = _FIELDS.get(fold(key))
            if field is not None:
                _check_reference(field, value, upstream_hosts)
        return members

    try:
        document: Json = json.loads(str(text, "utf-8"), object_pairs_hook=checked, parse_constant=_no_constant)
    except RecursionError:
        raise _bad("it is nested too deeply") from None
    except ValueError as error:
        raise _bad(f"it is not: {error}" if isinstance(error, json.JSONDecodeError) else "it is not") from None
    return document


def check_model(
    document: Json, operation_name: str, model: str, used: Callable[[str], str] = lambda model: model
) -> bool:
    """Whether the body names a model by an alias: `used` tells what a caller gets who asks for an id.

    Raises CallerErred BAD_REQUEST where it asks for another model than the path, which says `model`.
    """
    if not isinstance(document, dict):
        return False
    holders: list[Any] = [document]
    for key, value in document.items():
        if fold(key) == _MODEL_HOLDERS.get(operation_name):
            holders += value if isinstance(value, list) else [value]
    by_alias = False
    for holder in holders:
        for key, value in holder.items() if isinstance(holder, dict) else ():
            if fold(key) == "model" and value not in (None, ""):
                by_alias |= _by_alias(value, model, used)
    return by_alias


def _by_alias(value: Any, model: str, used: Callable[[str], str]) -> bool:
    asked = value.removeprefix("models/") if isinstance(value, str) else ""
    if not asked or used(asked) != used(model):
        raise CallerErred(
            Reason.BAD_REQUEST,
            f"The body asks for another model than the path, which says {model}. Send the same in both.",
        )
    return used(asked) != asked


def model_spans(text: str, operation_name: str) -> Iterator[spans.Span]:
    """Where in a document that `parse` took the values stand that name a model; what they are isn't looked at.

    `text` is as proxy/gemini/spans.py reads it.
    """
    top = spans.begins(text)
    if text[top] != "{":
        return
    for key, span in spans.members(text, top):
        if fold(key) == "model":
            yield span
        elif fold(key) == _MODEL_HOLDERS.get(operation_name):
            for start, _ in spans.elements(text, span[0]) if text[span[0]] == "[" else (span,):
                yield from _model_spans(text, start)


def _model_spans(text: str, start: int) -> Iterator[spans.Span]:
    if text[start] == "{":
        yield from (span for key, span in spans.members(text, start) if fold(key) == "model")


def fold(key: str) -> str:
    """A field's name as compared here: more spellings fall together than Google takes."""
    return key.replace("_", "").lower()


def camel(key: str) -> str:
    """snake_case to camelCase, as Google's parser does it."""
    if "_" not in key:
        return key
    first, *words = key.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in words)


def _check_reference(field: str, value: Any, upstream_hosts: frozenset[str]) -> None:
    if isinstance(value, list):
        for each in value:
            _check_reference(field, each, upstream_hosts)
    elif isinstance(value, str) and value and not (field == "fileUri" and crosses(value, upstream_hosts)):
        raise not_owned(field)


def not_owned(field: str) -> CallerErred:
    """The refusal of a body that names, in `field`, what belongs to the upstream's credential."""
    return CallerErred(
        Reason.RESOURCE_NOT_OWNED,
        f"The body names a file, cache or store in {field}, and none that your project owns. "
        "Send the data inline (inlineData; in OpenAI's shape a data URL), or as an absolute URL on another host.",
    )


def crosses(uri: str, upstream_hosts: frozenset[str]) -> bool:
    """Whether a URI surely leads to something other than Google's Files API, or an upstream.

    Surely: it is an http, https or gs URI, and its host stands there plainly, without user name, escape, or letters
    beyond ASCII, nor an @ after it that a lenient parser may take for the end of a user name.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        return False
    host = match["host"].lower().strip(".[]")
    return bool(host) and "generativelanguage" not in host and host not in upstream_hosts


def too_long() -> CallerErred:
    """The refusal of a text beyond MAX_PARSED."""
    return _bad(f"it is longer than {MAX_PARSED} bytes besides inline data")


def _no_constant(name: str) -> NoReturn:
    raise _bad(f"it holds {name}, which no JSON does")


def _bad(why: str) -> CallerErred:
    return CallerErred(
        Reason.BAD_REQUEST,
        "A body that may name a file, a cache, a store or a model, or whose cost a budget bounds, must be strict JSON, "
        f"and {why}. Send valid JSON.",
    )
