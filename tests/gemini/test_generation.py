"""`generationConfig`: what it asks for, in either spelling, of any length; what makes no sense is left to Google."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.gemini.bodies import BodyFacts
from proxy.gemini.hints import hint
from tests.gemini.test_bodies import PICTURE, asks, facts


@pytest.mark.parametrize("spell", [lambda name: name, lambda name: {"imageConfig": "image_config"}.get(name, name)])
def test_an_image_call_says_what_it_asks_for(spell: Callable[[str], str]) -> None:
    config = {"candidateCount": 2, "maxOutputTokens": "800", spell("imageConfig"): {"imageSize": "4K"}}
    got = facts(asks("blue", PICTURE, PICTURE, generationConfig=config, tools=[{"googleSearch": {}}]))
    assert got._replace(text_bytes=0) == BodyFacts("4K", 2, 800, 2, 0, True, hint=hint("one-candidate"))
    assert 100 < got.text_bytes < 500


def test_snake_case_throughout_says_the_same() -> None:
    config = {"candidate_count": 3, "max_output_tokens": 5, "image_config": {"image_size": "0.5K"}}
    body = {
        "contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": PICTURE}}]}],
        "generation_config": config,
        "tools": [{"google_search": {}}],
    }
    told = hint("size-not-offered", model="gemini-3-pro-image", sizes="1K, 2K, 4K")
    assert facts(body)._replace(text_bytes=0) == BodyFacts("512", 3, 5, 1, 0, True, hint=told)


@pytest.mark.parametrize(
    ("size", "known"), [("512", "512"), ("0.5K", "512"), ("1K", "1K"), ("2k", "2K"), ("9K", None), (512, "512")]
)
def test_sizes_have_one_name_each(size: object, known: str | None) -> None:
    assert facts(asks(generationConfig={"imageConfig": {"imageSize": size}})).image_size == known
    assert facts(asks(generationConfig={"responseFormat": {"image": {"imageSize": size}}})).image_size == known


@pytest.mark.parametrize("config", [None, [], "x", {"imageConfig": [1], "candidateCount": "x", "maxOutputTokens": -1}])
def test_settings_that_make_no_sense_are_left_to_google(config: object) -> None:
    assert facts(asks(generationConfig=config))._replace(text_bytes=0) == BodyFacts()


def test_settings_are_found_among_any_number_of_others() -> None:
    blank = " " * 100_000
    config = f'{{{blank}"imageConfig": {{{blank}"imageSize": "4K"}}, "x": [[]], {blank}"candidate_count": 2}}'
    got = facts(f'{{"generationConfig": {config}}}')
    assert (got.image_size, got.candidates) == ("4K", 2)
    image = f'{{"responseFormat": {{{blank}"image": {{{blank}"imageSize": "2K"}}}}}}'
    assert facts(f'{{"generation_config": {image}}}').image_size == "2K"


@pytest.mark.parametrize(
    ("modalities", "images"),
    [(["TEXT", "IMAGE"], True), (["image"], True), ([2], True), (["TEXT"], False), ("IMAGE", False), (None, False)],
)
@pytest.mark.parametrize("name", ["responseModalities", "response_modalities"])
def test_who_asks_for_images_is_known(name: str, modalities: object, images: bool) -> None:
    """In either spelling, by the enum's name or its number; also where the settings are long."""
    for padding in ("", "x" * 900):
        got = facts(asks(generationConfig={name: modalities, "responseSchema": {"description": padding}}))
        assert got.asks_images is images
