"""Google's usageMetadata, parsed, and made billable: quantities of tokens by direction and modality."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
"""Far beyond what any call takes, and so low that its cost in nano-dollars fits the ledger's 64-bit integers."""


class ModalityTokenCount(msgspec.Struct, rename="camel", gc=False):
    """One entry of a details list. Zeros and the unspecified modality are left out on the wire."""

    modality: str | None = None
    token_count: Count | None = None


Details = list[ModalityTokenCount]


class Usage(msgspec.Struct, rename="camel", gc=False):
    """`usageMetadata` of generateContent and the embedding methods. Every field is optional; zeros are left out.

    `prompt_token_count` includes the cached tokens; `total_token_count` is prompt + candidates + tool use + thoughts.
    """

    prompt_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None
    total_token_count: Count | None = None
    prompt_tokens_details: Details | None = None
    cache_tokens_details: Details | None = None
    candidates_tokens_details: Details | None = None
    tool_use_prompt_tokens_details: Details | None = None
    service_tier: str | None = None
    malformed: Annotated[bool, msgspec.Meta(description="Not on the wire")] = False
    """Something had another type than Google documents, or was no JSON; it is missing here."""


_decode = msgspec.json.Decoder(Usage, strict=False).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_FIELDS: Final = tuple((field.name, field.encode_name, field.type) for field in msgspec.structs.fields(Usage))


def parse(raw: bytes) -> Usage:
    """Parses the bytes of a usageMetadata object. Never raises: what can't be read is missing, and `malformed` says so.

    Counts may be integers or, as proto's JSON writes 64-bit ones, strings of digits. Unknown names are passed over.
    """
    try:
        usage = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(raw)
    usage.malformed = False
    return usage


def _parse_leniently(raw: bytes) -> Usage:
    usage = Usage(malformed=True)
    try:
        members = _decode_members(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return usage
    for name, on_the_wire, kind in _FIELDS:
        if on_the_wire in members and name != "malformed":
            setattr(usage, name, value(members[on_the_wire], kind))
    return usage


def value(raw: msgspec.Raw, kind: Any) -> Any:
    """A member read as `kind`; None where it can't be."""
    try:
        return msgspec.json.decode(raw, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def details(entries: Details | None) -> dict[str, int] | None:
    """A details list as a map from Google's name of the modality to its tokens; None where there is no list.

    Entries of the same modality are added up; one without a modality reads MODALITY_UNSPECIFIED.
    """
    if entries is None:
        return None
    counts: dict[str, int] = {}
    for entry in entries:
        modality = entry.modality or "MODALITY_UNSPECIFIED"
        counts[modality] = counts.get(modality, 0) + (entry.token_count or 0)
    return counts


_LABELLED: Final = ("image", "audio", "video", "document")
"""Modalities other than text, in the order in which they are served where the details claim too much."""


def total_tokens(usage: Usage) -> int:
    """All tokens that are billed: `totalTokenCount`, or the sum of its terms where it is missing.

    A total below prompt + tool use contradicts itself; then these two are what was reported, and there was no output.
    """
    known = (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)
    if usage.total_token_count is not None:
        return max(usage.total_token_count, known)
    return known + (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)


def quantities(usage: Usage, *, images_seen: int, image_model: bool, image_tokens_each: int | None) -> dict[str, int]:
    """Tokens by what they are billed as: `input_…`, `cached_…`, `output_…` with text, image, audio, video or document.

    Only those that aren't zero; none is negative, and they add up to `total_tokens(usage)`. `images_seen`: images that
    the response held; `image_tokens_each`: what one of the size asked for takes by the model's table, None where that
    is unknown.

    - output = total - prompt - tool use, which counts thoughts, and counts them once where a refusal mirrors them into
      candidates. It is split by `candidatesTokensDetails`; what no label claims is text.
    - An image model that sent images, and details that name none: images x the table's tokens, at most the output that
      no label claims; all of that where the table is unknown.
    - Cached tokens are part of the prompt: `cacheTokensDetails` says of which modality, what it leaves open is text as
      far as there is text. Tool use is input.
    - Labels that claim more than there is are served image first, then audio, video, document; text gets what is left.
    """
    prompt = usage.prompt_token_count or 0
    tool_use = usage.tool_use_prompt_token_count or 0
    output = total_tokens(usage) - prompt - tool_use
    inputs = _split(prompt, usage.prompt_tokens_details)
    cached = _take_cached(usage, inputs)
    if tool_use:
        for modality, tokens in _split(tool_use, usage.tool_use_prompt_tokens_details).items():
            inputs[modality] = inputs.get(modality, 0) + tokens
    outputs = _split(output, usage.candidates_tokens_details)
    if image_model and images_seen > 0 and not names_images(usage):
        claimed = _claims(usage.candidates_tokens_details).get("text", 0)
        unclaimed = max(outputs["text"] - claimed, 0)
        image = unclaimed if image_tokens_each is None else min(unclaimed, images_seen * image_tokens_each)
        outputs |= {"text": outputs["text"] - image, "image": image}
    by_direction = {"input": inputs, "cached": cached, "output": outputs}
    return {
        f"{direction}_{modality}": tokens
        for direction, by_modality in by_direction.items()
        for modality, tokens in by_modality.items()
        if tokens
    }


def names_images(usage: Usage) -> bool:
    """Whether the details say how much of the output is images."""
    return bool(_claims(usage.candidates_tokens_details).get("image"))


def _claims(entries: Details | None) -> dict[str, int]:
    return {modality.lower(): tokens for modality, tokens in (details(entries) or {}).items()}


def _split(tokens: int, entries: Details | None) -> dict[str, int]:
    """Shares tokens out among what the details claim; the rest, and what bears no label that is known, is text."""
    if not entries:
        return {"text": tokens}
    claims = _claims(entries)
    shares: dict[str, int] = {}
    for modality in _LABELLED:
        if modality in claims:
            shares[modality] = min(claims[modality], tokens)
            tokens -= shares[modality]
    shares["text"] = tokens
    return shares


def _take_cached(usage: Usage, inputs: dict[str, int]) -> dict[str, int]:
    """Takes the cached tokens out of `inputs` and returns them by modality.

    A label of Google's stands even where the prompt's details don't bear it out: the tokens then come from text first.
    """
    claims = _claims(usage.cache_tokens_details)
    count = usage.cached_content_token_count
    left = min(sum(claims.values()) if count is None else count, sum(inputs.values()))
    if not left:
        return {}
    cached: dict[str, int] = {}
    for modality in _LABELLED:
        claimed = min(claims.get(modality, 0), left)
        cached[modality] = claimed
        left -= claimed
        for source in (modality, "text", *_LABELLED):
            taken = min(claimed, inputs.get(source, 0))
            inputs[source] = inputs.get(source, 0) - taken
            claimed -= taken
    for modality in ("text", *_LABELLED):
        taken = min(left, inputs.get(modality, 0))
        cached[modality] = cached.get(modality, 0) + taken
        inputs[modality] = inputs.get(modality, 0) - taken
        left -= taken
    return cached
