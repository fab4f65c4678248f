"""What a request can weigh at most, as far as its body bounds it: read strictly, as nothing here may be guessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proxy.gemini import generation, references
from proxy.gemini.references import fold

_FUNCTIONS = "functiondeclarations"
"""The one tool that brings nothing into the prompt and is charged nothing: the caller runs it."""
_SEARCHES = frozenset(("googlesearch", "googlesearchretrieval", "googlemaps", "enterprisewebsearch", "retrieval"))
_NAMES_INPUT = frozenset(("fileuri", "cachedcontent"))


class Bounds(NamedTuple):
    """What a budget that must not be overrun holds a call by."""

    text_bytes: int
    """All that may be text."""
    pictures: int
    unbounded_input: bool
    """There is more to its prompt than text and pictures: media, files, caches, or tools that Google runs. What these
    weigh doesn't show in the body."""
    searches: bool
    """It declares tools that are charged by the query or the call: Google Search or Maps."""
    asks_tier: bool
    candidates: int
    max_output_tokens: int | None


def read(document: references.Json, length: int, text_length: int) -> Bounds:
    """Of a body of `length` bytes, of which `text_length` were parsed: long values of "data" were taken out of it."""
    pictures = emptied = 0
    texts = False
    unbounded = asks_tier = False
    tools: set[str] = set()
    for key, value in _members(document):
        if key == "inlinedata":
            kind = _kind(value)
            pictures += kind == "image"
            emptied -= kind == "image" and value.get("data") == ""
            texts |= kind == "text"
            unbounded |= kind not in ("image", "text")
        elif key == "data":
            emptied += value == ""
        elif key == "tools":
            tools |= _named(value)
        unbounded |= key in _NAMES_INPUT and bool(value)
        asks_tier |= key == "servicetier"
    asked = generation.asked(generation.of(document))
    return Bounds(
        length if texts or emptied else text_length,
        pictures,
        unbounded or not tools <= {_FUNCTIONS},
        not tools.isdisjoint(_SEARCHES),
        asks_tier,
        asked.candidates,
        asked.max_output_tokens,
    )


def _members(document: Any) -> Iterator[tuple[str, Any]]:
    """Every member of every object, its name folded."""
    held = [document]
    while held:
        value = held.pop()
        if isinstance(value, dict):
            for key, member in value.items():
                yield fold(key), member
            held += value.values()
        elif isinstance(value, list):
            held += value


def _kind(inline: Any) -> str:
    """ "image" of {"mimeType": "image/png", …}; "" where none is named."""
    for key, value in inline.items() if isinstance(inline, dict) else ():
        if fold(key) == "mimetype" and isinstance(value, str):
            return value.strip().lower().partition("/")[0]
    return ""


def _named(tools: Any) -> set[str]:
    """The kinds of tools; of what is no list of objects, "?"."""
    each = tools if isinstance(tools, list) else [tools]
    return {fold(name) for tool in each for name in (tool if isinstance(tool, dict) else ["?"])}
