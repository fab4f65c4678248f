"""Hints on what only an answer shows: why no picture came, or another one than was asked for."""

from __future__ import annotations

import re

from proxy.errors import Hint
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.hints import hint
from proxy.gemini.image_models import IMAGE_MODELS, retired
from proxy.gemini.reading import Reading

# https://ai.google.dev/api/generate-content: finishReason and blockReason.
_PICTURE_WITHHELD = frozenset({"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"})
_WITHHELD = frozenset({"SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST", "LANGUAGE"})
_NOTHING_DRAWN = frozenset({"NO_IMAGE", "IMAGE_OTHER"})

_WORD = re.compile(r"[A-Z][A-Z_]{1,39}")
_ID = re.compile(r"[a-z][a-z0-9.-]{1,63}")


def of_answer(reading: Reading, model: str, facts: BodyFacts, *, tokens: int, thoughts: int) -> Hint | None:
    """What a whole answer to a request calls for. `model` is the one that was asked upstream.

    `tokens` and `thoughts`: what its usage counts of candidates and of thinking.
    """
    reason = reading.finish_reason
    draws = model in IMAGE_MODELS or facts.asks_images or retired(model) is not None
    if reason not in (None, "STOP") and (found := _of_reason(reason, reading, draws, tokens, thoughts)):
        return found
    if draws and (found := _of_pictures(reading, facts)):
        return found
    version = reading.model_version
    if version and version != model and _is_other(version, model):
        return hint("other-model", version=version)
    return None


def _of_reason(reason: str, reading: Reading, draws: bool, tokens: int, thoughts: int) -> Hint | None:
    if reading.blocked:
        return hint("prompt-blocked", reason=reason) if _WORD.fullmatch(reason) else None
    if reason in _PICTURE_WITHHELD or (reason in _WITHHELD and draws and not reading.images):
        return None if reading.images else hint("picture-withheld", reason=reason)
    if reason in _WITHHELD:
        return hint("answer-withheld", reason=reason)
    if reason in _NOTHING_DRAWN and not reading.images:
        return hint("nothing-drawn", reason=reason)
    if reason == "MAX_TOKENS":
        if draws and not (reading.images or reading.uncounted):
            return hint("cap-before-picture")
        return hint("cap-in-thinking") if thoughts and not tokens else None
    if reason == "MALFORMED_FUNCTION_CALL":
        return hint("malformed-call")
    return hint("continuation") if reason == "CONTINUATION" else None


def _of_pictures(reading: Reading, facts: BodyFacts) -> Hint | None:
    if reading.uncounted or not reading.complete:
        return None
    if not reading.images and reading.finish_reason == "STOP" and facts.hint is None:
        return hint("text-only")
    return hint("several-pictures", pictures=reading.images) if reading.images > facts.candidates else None


def _is_other(version: str, model: str) -> bool:
    """Whether it names another model, and not one asked for by a moving name, nor a version of the one asked for."""
    if model.endswith("-latest") or not _ID.fullmatch(version):
        return False
    return not version.startswith(f"{model}-") and not model.startswith(f"{version}-")
