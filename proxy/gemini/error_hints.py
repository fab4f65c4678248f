"""Hints on what an error shows: Google's own, by its status and words; ours, where the message leaves something out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from proxy.errors import Hint, NoUpstream, Reason, Refusal
from proxy.gemini import exhausted, request_hints
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from proxy.gemini.hints import hint, of_retired
from proxy.gemini.image_models import COMMON_RATIOS, IMAGE_MODELS, retired

_NOT_FOUND = " is not found for API version "
_UNKNOWN_NAME = re.compile(r"Unknown name \"([A-Za-z_]{1,40})\"(?: at '([a-z_.]{1,80})')?: Cannot find field")
_RATIO_REFUSED = re.compile(r"Aspect ratio .{1,40} is not supported")
_SIZE_REFUSED = re.compile(r"Image size .{1,40} is not supported")
_NO_TOOLS = re.compile(r"(?:Function calling|JSON mode) is not enabled for")
_LARGE = ("2K", "4K")

_OF_OPENAI = frozenset({"prompt", "messages", "n", "size", "quality", "style", "max_tokens", "response_format"})
_OF_CONFIG = frozenset(
    {
        *("responseModalities", "imageConfig", "temperature", "topP", "topK", "maxOutputTokens", "candidateCount"),
        *("thinkingConfig", "responseMimeType", "responseSchema", "stopSequences", "seed"),
    }
)
_OF_IMAGE_CONFIG = frozenset({"aspectRatio", "imageSize"})
_NATIVE = _OF_CONFIG | _OF_IMAGE_CONFIG | {"generationConfig", "contents", "safetySettings", "systemInstruction"}


def of_error(call: Call, facts: BodyFacts, status: int, body: bytes) -> Hint | None:
    """What an upstream's error calls for: `body` is its body without content coding. None where it isn't known.

    Raises nothing, whatever it is. A body beyond `exhausted.TOLD_BYTES`, eight times Google's largest, isn't read.
    """
    if len(body) > exhausted.TOLD_BYTES:
        return None
    error = exhausted.error_of(body)
    if error is None:
        return None
    message = error.get("message")
    said = message if isinstance(message, str) else ""
    if status == 429:
        return _of_quota(call.model, error)
    if status == 404:
        return _not_found(call, said)
    if status == 400:
        return _of_bad_request(call, facts, said)
    return _of_status(status, error, facts)


def of_refusal(refusal: Refusal, model: str = "") -> Hint | None:
    """What a refusal of ours calls for beyond its message. `model`: which one the call asked for."""
    if isinstance(refusal, NoUpstream) and refusal.told:
        return _of_quota(model, refusal.told)
    if refusal.reason is Reason.UPSTREAM_CREDENTIAL_REFUSED:
        return hint("operators-key")
    return refusal.hint


def _of_status(status: int, error: Mapping[str, Any], facts: BodyFacts) -> Hint | None:
    word = error.get("status")
    if status == 403:
        return hint("no-access") if word == "PERMISSION_DENIED" else None
    if status == 500:
        return hint("google-failed") if word == "INTERNAL" else None
    if status == 503:
        return hint("overloaded") if word == "UNAVAILABLE" else None
    if status == 504:
        large = facts.image_size in _LARGE or facts.inline_pictures
        return hint("deadline-picture" if large else "deadline")
    return None


def _not_found(call: Call, said: str) -> Hint | None:
    name = call.operation.name
    if name == "openai.images.generations":
        return of_retired(call.model) or hint("compatibility-images")
    if _NOT_FOUND not in said:
        return None
    if gone := of_retired(call.model):
        return gone
    if call.model in IMAGE_MODELS and name in ("generateContent", "streamGenerateContent"):
        return hint("model-access", model=call.model)
    return hint("model-unknown")


def _of_bad_request(call: Call, facts: BodyFacts, said: str) -> Hint | None:
    known = IMAGE_MODELS.get(call.model)
    unknown = (_of_unknown_name(call, found[1], found[2] or "") for found in _UNKNOWN_NAME.finditer(said))
    if of_name := next(filter(None, unknown), None):
        return of_name
    if _RATIO_REFUSED.search(said):
        common = hint("ratio-refused", ratios=", ".join(COMMON_RATIOS))
        return facts.hint or (request_hints.of_ratios(call.model, known) if known else common)
    if _SIZE_REFUSED.search(said):
        return facts.hint or (request_hints.of_sizes(call.model, known) if known else None)
    if _NO_TOOLS.search(said):
        return hint("no-tools") if known or retired(call.model) else None
    if said.startswith("User location is not supported"):
        return hint("location")
    return hint("no-free-tier") if "free tier is not available in your country" in said else None


def _of_unknown_name(call: Call, name: str, at: str) -> Hint | None:
    """`at`: the path of the message that it stands in, "" for the whole request."""
    field = re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
    if call.operation.name.startswith("openai."):
        return hint("native-fields") if field in _NATIVE else None
    if not at and name in _OF_OPENAI:
        return hint("openai-fields")
    if field in _OF_IMAGE_CONFIG and at in ("", "generation_config"):
        return hint("misplaced-field", field=field, place="generationConfig.imageConfig")
    if field in _OF_CONFIG and not at:
        return hint("misplaced-field", field=field, place="generationConfig")
    return None


def _of_quota(model: str, error: dict[str, Any]) -> Hint | None:
    """What a 429 calls for."""
    ids = exhausted.quotas_of(error)
    if any(one.endswith("-FreeTier") for one in ids):
        return hint("quota-free-pictures" if model in IMAGE_MODELS or retired(model) else "quota-free-tier")
    if exhausted.is_daily(error):
        return hint("quota-day")
    if any("PerMinute" in one for one in ids) or exhausted.says(error, ("requests per minute",)):
        delay = exhausted.delay_of(error)
        return hint("quota-minute", wait=f"in {math.ceil(min(delay, 3600))} s" if delay else "within a minute")
    if exhausted.says(error, exhausted.SPENT):
        return hint("quota-spend")
    if exhausted.says(error, exhausted.DEPLETED):
        return hint("quota-prepaid")
    return hint("quota-untold") if exhausted.says(error, ("resource has been exhausted",)) else None
