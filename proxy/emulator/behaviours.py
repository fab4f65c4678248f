"""The little language: `[[name=value]]` in a prompt says how the emulator is to behave for that one request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from proxy.emulator import errors

_DIRECTIVE = re.compile(r"\[\[([a-z][a-z0-9-]*)(?:=([^\[\]]*))?\]\]")

USAGES = ("none", "null", "zero", "no-details", "mirrored", "first-only", "last-only", "null-last", "zero-first")
USAGE_CHUNKS = ("own", "every", "finish")
IMAGE_TYPES = ("png", "jpeg", "webp")
TIERS = ("standard", "flex", "priority")


@dataclass(frozen=True)
class Behaviour:
    """What the directives of one request ask for; None is "as Google would"."""

    delay: float = 0.0
    stall: int | None = None
    break_after: int | None = None
    status: str | None = None
    error_mid_stream: str | None = None
    echo_key: bool = False
    refuse: str | None = None
    block: str | None = None
    finish: str | None = None
    usage: str | None = None
    usage_chunk: str = "own"
    reasoning: str | None = None
    images: int | None = None
    drafts: int = 0
    image_bytes: int | None = None
    image_type: str | None = None
    lead_text: bool | None = None
    url: str | None = None
    text_bytes: int | None = None
    thoughts: int | None = None
    tool_use: int = 0
    cached: int = 0
    search: int = 0
    chunks: int | None = None
    chunk_delay: float = 0.0
    gzip: bool = False
    length: bool = False
    tier: str | None = None
    model_version: str | None = None


class Directive(NamedTuple):
    """One word of the language: how its value is read, an example, and what it does: the table of docs/emulator.md."""

    read: Callable[[str | None], Any]
    example: str
    does: str


def parse(texts: Iterable[str]) -> Behaviour:
    """Reads every directive in the texts; of two alike the later holds.

    Raises ApiError (400) for a directive that doesn't exist or a value that it doesn't take.
    """
    asked: dict[str, Any] = {}
    for text in texts:
        for name, value in _DIRECTIVE.findall(text):
            asked |= _read(name, value or None)
    return replace(Behaviour(), **asked)


def without_directives(text: str) -> str:
    return _DIRECTIVE.sub("", text).strip()


def _read(name: str, value: str | None) -> dict[str, Any]:
    directive = DIRECTIVES.get(name)
    if directive is None:
        raise errors.invalid(f"Unknown emulator directive [[{name}]]; docs/emulator.md lists those that exist.")
    try:
        wanted = directive.read(value)
    except ValueError as wrong:
        said = f"Emulator directive [[{name}]] doesn't take {value!r}: {wrong}. Try {directive.example}."
        raise errors.invalid(said) from None
    if name == "no-length":
        return {"length": False}
    return {name.replace("-", "_"): wanted}


def _count(at_least: int = 0) -> Callable[[str | None], int]:
    def read(value: str | None) -> int:
        number = int(value) if value and value.isdecimal() else -1
        if number < at_least:
            raise ValueError(f"a whole number from {at_least}")
        return number

    return read


def _seconds(value: str | None) -> float:
    if not value or not re.fullmatch(r"\d+(\.\d+)?", value):
        raise ValueError("seconds, such as 0.5")
    return float(value)


def _flag(value: str | None) -> bool:
    if value is not None:
        raise ValueError("it takes no value")
    return True


def _switch(value: str | None) -> bool:
    if value not in ("on", "off"):
        raise ValueError("on or off")
    return value == "on"


def _word(value: str | None) -> str:
    if not value:
        raise ValueError("it needs a value")
    return value


def _one_of(words: Iterable[str]) -> Callable[[str | None], str]:
    allowed = tuple(words)

    def read(value: str | None) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return value

    return read


_status = _one_of(sorted(errors.NAMES))

DIRECTIVES: dict[str, Directive] = {
    "delay": Directive(_seconds, "[[delay=0.5]]", "Waits so many seconds before the response's head."),
    "stall": Directive(
        lambda value: 0 if value is None else _count()(value),
        "[[stall=1000]]",
        "Sends so many bytes of the body (none without a value), then nothing more until the client leaves.",
    ),
    "break-after": Directive(
        _count(),
        "[[break-after=1000]]",
        "Sends so many bytes of the body, then drops the connection without a proper end.",
    ),
    "status": Directive(_status, "[[status=429]]", "Answers with Google's own error body for this status."),
    "error-mid-stream": Directive(
        _status,
        "[[error-mid-stream=429]]",
        "A stream breaks into this error after half its chunks; elsewhere as `status`.",
    ),
    "echo-key": Directive(_flag, "[[echo-key]]", "Answers 403, repeating the credential in the body and in a header."),
    "refuse": Directive(
        _word,
        "[[refuse=IMAGE_SAFETY]]",
        "No content: 200 with this finishReason, thoughts mirrored into candidatesTokenCount as Google does.",
    ),
    "block": Directive(_word, "[[block=SAFETY]]", "The prompt is blocked: 200 with promptFeedback and no candidates."),
    "finish": Directive(_word, "[[finish=MAX_TOKENS]]", "Content as usual, but with this finishReason."),
    "usage": Directive(
        _one_of(USAGES), "[[usage=none]]", "Spoils usageMetadata in the reply; the account keeps the true numbers."
    ),
    "usage-chunk": Directive(
        _one_of(USAGE_CHUNKS),
        "[[usage-chunk=every]]",
        "An OpenAI stream has its usage in a last chunk of its `own`, in `every` one, or in that of the `finish`.",
    ),
    "reasoning": Directive(
        _one_of(("beside", "within")),
        "[[reasoning=within]]",
        "OpenAI's usage names reasoning_tokens: `beside` completion_tokens, or `within` them.",
    ),
    "images": Directive(_count(), "[[images=3]]", "Draws so many pictures."),
    "drafts": Directive(
        _count(), "[[drafts=1]]", "Draws so many pictures before, marked as thoughts, which aren't billed."
    ),
    "image-bytes": Directive(
        _count(1),
        "[[image-bytes=20000000]]",
        "Pads each picture's file to exactly so many bytes with incompressible noise.",
    ),
    "image-type": Directive(_one_of(IMAGE_TYPES), "[[image-type=webp]]", "Draws pictures of this format."),
    "lead-text": Directive(_switch, "[[lead-text=off]]", "Whether a text part comes before the first picture."),
    "url": Directive(
        lambda value: value or "",
        "[[url]]",
        "Puts a URL (the one given, if any) in inlineData.data in place of base64, as some resellers do.",
    ),
    "text-bytes": Directive(_count(1), "[[text-bytes=1000]]", "Answers with a text of exactly so many bytes."),
    "thoughts": Directive(_count(), "[[thoughts=137]]", "Sets thoughtsTokenCount."),
    "tool-use": Directive(_count(), "[[tool-use=50]]", "Sets toolUsePromptTokenCount."),
    "cached": Directive(_count(), "[[cached=100]]", "Adds so many tokens to the prompt and reports them as cached."),
    "search": Directive(_count(), "[[search=2]]", "Adds groundingMetadata with so many webSearchQueries."),
    "chunks": Directive(_count(1), "[[chunks=40]]", "Streams exactly so many chunks (but never splits a picture)."),
    "chunk-delay": Directive(
        _seconds, "[[chunk-delay=0.005]]", "Waits so many seconds before each chunk after the first."
    ),
    "gzip": Directive(_flag, "[[gzip]]", "Compresses the body though the client didn't ask for it."),
    "length": Directive(_flag, "[[length]]", "Sends the body with a content-length in place of chunks."),
    "no-length": Directive(_flag, "[[no-length]]", "Sends the body chunked, which is the default; undoes `length`."),
    "tier": Directive(_one_of(TIERS), "[[tier=priority]]", "Serves at this tier, whatever was asked for."),
    "model-version": Directive(_word, "[[model-version=gemini-x]]", "Reports this modelVersion."),
}
