"""The usage object in OpenAI's shape, parsed, and made billable."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.gemini import usage as usages
from proxy.gemini.usage import Count, ModalityTokenCount, Usage


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None
    audio_tokens: Count | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class _OpenAIUsage(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_decode = msgspec.json.Decoder(_OpenAIUsage, strict=False).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIELDS: Final = tuple((field.name, field.type) for field in msgspec.structs.fields(_OpenAIUsage))


def parse(raw: bytes) -> Usage:
    """Parses a usage object into Google's terms. Never raises: see `usage.parse`."""
    try:
        return _in_googles_terms(_decode(raw))
    except _UNREADABLE:
        usage = _in_googles_terms(_parse_leniently(raw))
        usage.malformed = True
        return usage


def quantities(usage: Usage) -> dict[str, int]:
    """Tokens by what they are billed as, zeros left out: see `usage.quantities`.

    Output is what is left of the total, as thoughts often show only there; but never less than what is said to be
    output. Reasoning tokens are part of the completion where they are told at all, so they aren't added to it.
    """
    prompt = usage.prompt_token_count or 0
    completion = max(usage.candidates_token_count or 0, usage.thoughts_token_count or 0)
    total = max(usage.total_token_count or 0, prompt + completion)
    weighed = msgspec.structs.replace(usage, total_token_count=total)
    return usages.quantities(weighed, images_seen=0, image_model=False, image_tokens_each=None)


def _in_googles_terms(said: _OpenAIUsage) -> Usage:
    prompt = said.prompt_tokens_details or _PromptDetails()
    completion = said.completion_tokens_details or _CompletionDetails()
    return Usage(
        prompt_token_count=said.prompt_tokens,
        cached_content_token_count=prompt.cached_tokens,
        candidates_token_count=said.completion_tokens,
        thoughts_token_count=completion.reasoning_tokens,
        total_token_count=said.total_tokens,
        prompt_tokens_details=_audio(prompt.audio_tokens),
        candidates_tokens_details=_audio(completion.audio_tokens),
    )


def _audio(tokens: int | None) -> list[ModalityTokenCount] | None:
    return [ModalityTokenCount("AUDIO", tokens)] if tokens else None


def _parse_leniently(raw: bytes) -> _OpenAIUsage:
    usage = _OpenAIUsage()
    try:
        members = _decode_members(raw)
    except _UNREADABLE:
        return usage
    for name, kind in _FIELDS:
        if name in members:
            setattr(usage, name, usages.value(members[name], kind))
    return usage
