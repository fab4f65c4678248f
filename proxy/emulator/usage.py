"""What a reply costs in tokens: counted, shown as usageMetadata, and spoilt where a directive asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.emulator import requests

ABSENT: Any = object()
"""In place of a usageMetadata that isn't sent at all."""
ZERO = {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}
_MODALITIES = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO"}


@dataclass(frozen=True)
class Usage:
    """The true figures of one reply, as they are billed."""

    prompt: dict[str, int] = field(default_factory=dict)
    """Tokens by modality, cached ones included."""
    cached: int = 0
    tool_use: int = 0
    text: int = 0
    """Output tokens beside the pictures'."""
    image: int = 0
    thoughts: int = 0
    tier: str | None = None

    @property
    def prompt_tokens(self) -> int:
        return sum(self.prompt.values())

    @property
    def candidates(self) -> int:
        return self.text + self.image

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.tool_use + self.candidates + self.thoughts

    def metadata(self) -> dict[str, Any]:
        """usageMetadata in the order of Google's message; zeros are left out.

        candidatesTokensDetails names pictures only, and less than candidatesTokenCount, as real replies do.
        """
        shown = {
            "promptTokenCount": self.prompt_tokens,
            "candidatesTokenCount": self.candidates,
            "totalTokenCount": self.total,
            "cachedContentTokenCount": self.cached,
            "promptTokensDetails": _details(self.prompt),
            "cacheTokensDetails": _details({"TEXT": self.cached}),
            "candidatesTokensDetails": _details({"IMAGE": self.image}),
            "toolUsePromptTokenCount": self.tool_use,
            "toolUsePromptTokensDetails": _details({"TEXT": self.tool_use}),
            "thoughtsTokenCount": self.thoughts,
            "serviceTier": self.tier,
        }
        return {name: value for name, value in shown.items() if value}

    def numbers(self) -> dict[str, Any]:
        """The figures under the names that a ledger has for them; details as maps by modality."""
        return {
            "prompt_token_count": self.prompt_tokens,
            "cached_content_token_count": self.cached,
            "tool_use_prompt_token_count": self.tool_use,
            "thoughts_token_count": self.thoughts,
            "candidates_token_count": self.candidates,
            "total_token_count": self.total,
            "prompt_tokens_details": {kind: count for kind, count in self.prompt.items() if count},
            "candidates_tokens_details": {"IMAGE": self.image} if self.image else {},
        }


def text_tokens(texts: Iterable[str]) -> int:
    """Four bytes a token, which is near enough to Google's count for English."""
    return sum(-(-len(text.encode()) // 4) for text in texts)


def media_tokens(media_types: Iterable[str], picture: int) -> dict[str, int]:
    """Tokens by modality; audio and video count as ten seconds each, whatever is in them."""
    cost = {"IMAGE": picture, "AUDIO": 320, "VIDEO": 2630, "DOCUMENT": 258}
    found: dict[str, int] = {}
    for media_type in media_types:
        modality = _MODALITIES.get(media_type.partition("/")[0], "DOCUMENT")
        found[modality] = found.get(modality, 0) + cost[modality]
    return found


def prompt_of(contents: Sequence[Any], picture: int, cached: int) -> Usage:
    """What the contents cost as a prompt: their texts, their media, and `cached` tokens on top."""
    prompt = {"TEXT": text_tokens(text for content in contents for text in requests.texts(content)) + cached}
    return Usage(prompt=prompt | media_tokens(requests.media_types(contents), picture), cached=cached)


def spoilt(usage: Usage, how: str | None, *, first: bool = True, last: bool = True) -> Any:
    """usageMetadata as the `usage` directive wants it in this chunk: a dict, None for null, or ABSENT."""
    shown = usage.metadata()
    if how == "null" or (how == "null-last" and last):
        return None
    if how == "none" or (how == "first-only" and not first) or (how == "last-only" and not last):
        return ABSENT
    if how == "zero" or (how == "zero-first" and first):
        return dict(ZERO)
    if how == "no-details":
        return {name: value for name, value in shown.items() if not name.endswith("Details")}
    if how == "mirrored":
        return mirrored(shown)
    return shown


def mirrored(shown: dict[str, Any]) -> dict[str, Any]:
    """Thoughts counted into candidatesTokenCount as well, while the total stays true: what Google does on refusals."""
    thoughts = shown.get("thoughtsTokenCount", 0)
    doubled = {"candidatesTokenCount": shown.get("candidatesTokenCount", 0) + thoughts}
    # promptTokenCount stays the first key.
    return (
        {"promptTokenCount": shown.get("promptTokenCount", 0)}
        | doubled
        | {name: value for name, value in shown.items() if name not in ("promptTokenCount", "candidatesTokenCount")}
    )


def _details(counts: dict[str, int]) -> list[dict[str, Any]]:
    return [{"modality": kind, "tokenCount": count} for kind, count in counts.items() if count]
