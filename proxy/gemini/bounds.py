"""What a request can weigh at most, as far as its body bounds it: read strictly, as nothing here may be guessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proxy.gemini import generation, references
from proxy.gemini.references import fold

_FUNCTIONS = "functiondeclarations"
"""The one tool that brings nothing into the prompt and is charged nothing: the caller runs it."""
_SEARCHES = frozenset(("googlesearch", "googlesearchretrieval", "googlemaps", "enterprisewebsearch", "retrieval"))
_NAMES_INPUT = frozenset(("fileuri", "cachedcontent", "continuationtoken"))
_TO_PARTS = frozenset(("contents", "content", "systeminstruction", "requests", "parts", "functionresponse"))
"""The members on the way to a part that holds inline data. What stands under any other name, as the arguments of a
function do, is free JSON, which the model reads as text, whatever it looks like."""
ANY_COUNT = 1 << 30
"""Candidates that are asked for in a way that isn't understood here: as many as there may be."""


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
    any_size: bool = False
    """It asks for a size of image in a way that isn't understood here."""


def read(document: references.Json, length: int, text_length: int) -> Bounds:
    """Of a body of `length` bytes, of which `text_length` were parsed: long values of "data" were taken out of it."""
    pictures = emptied = 0
    texts = False
    unbounded = asks_tier = False
    tools: set[str] = set()
    for key, value, is_part in _members(document):
        if key == "inlinedata":
            kind = _kind(value) if is_part else "text"
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
        max(_candidates(document), asked.candidates),
        asked.max_output_tokens,
        any(generation.size(size) not in (asked.image_size or "",) for size in _settings(document, "imagesize")),
    )


def _candidates(document: Any) -> int:
    counts = [generation.count(value) for value in _settings(document, "candidatecount")]
    return ANY_COUNT if None in counts else max((count or 0 for count in counts), default=0)


def _settings(document: Any, wanted: str) -> Iterator[Any]:
    """Whatever may be this setting, however it and `generationConfig` are spelt."""
    for name, settings in document.items() if isinstance(document, dict) else ():
        if fold(name) == "generationconfig":
            yield from (value for key, value, _ in _members(settings) if key == wanted and value is not None)


def _members(document: Any) -> Iterator[tuple[str, Any, bool]]:
    """Every member of every object, its name folded, and whether the object may be a part."""
    held = [(document, True)]
    while held:
        value, on_the_way = held.pop()
        if isinstance(value, dict):
            for name, member in value.items():
                key = fold(name)
                yield key, member, on_the_way
                held.append((member, on_the_way and key in _TO_PARTS))
        elif isinstance(value, list):
            held += [(member, on_the_way) for member in value]


def _kind(inline: Any) -> str:
    """ "image" of {"mimeType": "image/png", …}; "" where none is named, or more than one."""
    types = [value for key, value in inline.items() if fold(key) == "mimetype"] if isinstance(inline, dict) else []
    return types[0].strip().lower().partition("/")[0] if len(types) == 1 and isinstance(types[0], str) else ""


def _named(tools: Any) -> set[str]:
    """The kinds of tools; of what is no list of objects, "?"."""
    each = tools if isinstance(tools, list) else [tools]
    return {fold(name) for tool in each for name in (tool if isinstance(tool, dict) else ["?"])}
