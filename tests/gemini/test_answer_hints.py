"""What only an answer shows is told on its evidence: each hint beside the nearest answer that calls for none."""

from __future__ import annotations

import pytest

from proxy.gemini.answer_hints import of_answer
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.hints import hint
from proxy.gemini.reading import Reading

NANO, TEXT = "gemini-nano-banana-2.1", "gemini-3.8-flash"
PLAIN = BodyFacts()
ASKS_IMAGES = BodyFacts(asks_images=True)


def told(model: str, facts: BodyFacts = PLAIN, tokens: int = 9, thoughts: int = 9, **said: object) -> str | None:
    """The name of what is told of an answer that came whole, and says of itself what `said` has."""
    reading = Reading(**{"complete": True, "model_version": model, **said})  # type: ignore[arg-type]
    found = of_answer(reading, model, facts, tokens=tokens, thoughts=thoughts)
    return found.name if found else None


@pytest.mark.parametrize("model", [NANO, "gemini-2.5-flash-image-preview"])
@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"finish_reason": "STOP", "images": 1}, None),
        ({"finish_reason": "STOP"}, "text-only"),
        ({"finish_reason": "STOP", "uncounted": True}, None),
        ({"finish_reason": "STOP", "complete": False}, None),
        ({"finish_reason": None}, None),
        ({"finish_reason": "STOP", "images": 2}, "several-pictures"),
        ({"finish_reason": "IMAGE_SAFETY"}, "picture-withheld"),
        ({"finish_reason": "IMAGE_SAFETY", "images": 1}, None),
        ({"finish_reason": "PROHIBITED_CONTENT"}, "picture-withheld"),
        ({"finish_reason": "PROHIBITED_CONTENT", "images": 1}, "answer-withheld"),
        ({"finish_reason": "NO_IMAGE"}, "nothing-drawn"),
        ({"finish_reason": "NO_IMAGE", "images": 1}, None),
        ({"finish_reason": "IMAGE_OTHER"}, "nothing-drawn"),
        ({"finish_reason": "MAX_TOKENS"}, "cap-before-picture"),
        ({"finish_reason": "MAX_TOKENS", "images": 1}, None),
        ({"finish_reason": "SOMETHING_NEW"}, None),
        ({"finish_reason": "OTHER", "blocked": True}, "prompt-blocked"),
        ({"finish_reason": "<b>", "blocked": True}, None),
    ],
)
def test_an_image_models_answer(model: str, said: dict[str, object], name: str | None) -> None:
    assert told(model, **said) == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "tokens", "name"),
    [
        ({"finish_reason": "STOP"}, 9, None),
        ({"finish_reason": "STOP", "images": 3}, 9, None),
        ({"finish_reason": "SAFETY"}, 9, "answer-withheld"),
        ({"finish_reason": "SAFETY", "blocked": True}, 0, "prompt-blocked"),
        ({"finish_reason": "MAX_TOKENS"}, 9, None),
        ({"finish_reason": "MAX_TOKENS"}, 0, "cap-in-thinking"),
        ({"finish_reason": "MALFORMED_FUNCTION_CALL"}, 0, "malformed-call"),
        ({"finish_reason": "CONTINUATION"}, 9, "continuation"),
        ({"finish_reason": "OTHER"}, 9, None),
    ],
)
def test_a_text_models_answer(said: dict[str, object], tokens: int, name: str | None) -> None:
    assert told(TEXT, tokens=tokens, **said) == name  # type: ignore[arg-type]


def test_a_model_that_is_asked_for_pictures_is_taken_to_draw_whatever_its_name() -> None:
    assert told("reseller-draws-1", ASKS_IMAGES, finish_reason="STOP") == "text-only"
    assert told("reseller-draws-1", finish_reason="STOP") is None


def test_text_that_was_asked_for_is_no_surprise() -> None:
    """Where the request says itself that no picture is wanted, that is what is told of it."""
    facts = BodyFacts(hint=hint("no-image-modality"))
    assert told(NANO, facts, finish_reason="STOP") is None


def test_as_many_pictures_as_candidates_are_as_many_as_were_asked_for() -> None:
    assert told("x", BodyFacts(candidates=3, asks_images=True), finish_reason="STOP", images=3) is None
    assert told("x", BodyFacts(candidates=3, asks_images=True), finish_reason="STOP", images=4) == "several-pictures"


@pytest.mark.parametrize(
    ("model", "version", "name"),
    [
        ("gemini-3.7-flash", "gemini-3.8-flash", "other-model"),
        ("gemini-3.8-flash", "gemini-3.8-flash-001", None),
        ("gemini-3.8-flash-001", "gemini-3.8-flash", None),
        ("gemini-flash-latest", "gemini-3.8-flash", None),
        ("gemini-3.8-flash", "<b>", None),
        ("gemini-3.8-flash", None, None),
        ("gemini-3.8-flash", "", None),
        ("gemini-3.8-flash", "gemini-3.8-flashy", "other-model"),
    ],
)
def test_another_model_than_was_asked_for_is_told(model: str, version: str | None, name: str | None) -> None:
    assert told(model, finish_reason="STOP", model_version=version) == name
