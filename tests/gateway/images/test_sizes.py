"""Sizes, ratios, qualities and words: what each becomes, for models that take all, some or none of them."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gateway.images import sizes
from proxy.gemini.image_models import COMMON_RATIOS, IMAGE_MODELS, UNKNOWN, ImageModel, offers

PAGE = (Path(__file__).parents[3] / "docs" / "openai-images.md").read_text("utf-8")
ALL, PRO, LITE, PLAIN = map(
    offers,
    ("gemini-3.1-flash-image", "gemini-3-pro-image", "gemini-3.1-flash-lite-image", "gemini-2.5-flash-image"),
)
MODELS = st.sampled_from([*IMAGE_MODELS.values(), UNKNOWN])
QUALITIES = st.sampled_from(list(sizes.QUALITIES))


def test_the_page_has_each_name_in_backticks() -> None:
    named = set(re.findall(r"`([^`\n]+)`", PAGE))
    tables = sizes.STANDARD_SIZES, sizes.QUALITIES, sizes.STYLES, sizes.BACKGROUNDS, sizes.FIDELITIES
    assert {name for table in tables for name in table} - named == set()


def test_the_page_has_each_sentence_word_for_word() -> None:
    said = [sizes.MASKED]
    for table in (sizes.STYLES, sizes.BACKGROUNDS, sizes.FIDELITIES):
        said += [sentence for sentence in table.values() if sentence]
    assert [sentence for sentence in said if sentence not in PAGE] == []


@pytest.mark.parametrize(
    ("size", "read"),
    [
        ("auto", None),
        *((size, tuple(map(int, size.split("x")))) for size in sizes.STANDARD_SIZES),
        ("272x816", (272, 816)),
        ("3840x1280", (3840, 1280)),
        ("512", "512"),
        ("0.5K", "512"),
        ("1K", "1K"),
        ("2K", "2K"),
        ("4K", "4K"),
    ],
)
def test_a_size_is_read(size: str, read: object) -> None:
    assert sizes.parse_size(size) == read


@pytest.mark.parametrize(
    "size",
    [
        *("", "1024", "1024X1024", "1024*1024", "1024x", "x1024", "1024x1024 ", "1k", "8K", "huge"),
        *("0x0", "-1x1", "01024x1024", "1025x1024", "1032x1024", "240x256", "256x240", "3856x3840", "99999x99999"),
        *("3840x1264", "256x784", "1024x1024x1", "\u0661\u0660\u0662\u0664x1024"),
    ],
)
def test_a_size_that_does_not_exist_is_none(size: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(size)}$"):
        sizes.parse_size(size)


@pytest.mark.parametrize("ratio", ["", "1", "0:1", "1:0", "1.5:1", "16x9", ":", "1:1:1", "-1:1", "10000:1", "16:9\n"])
def test_what_is_no_ratio_is_none(ratio: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(ratio)}$"):
        sizes.parse_ratio(ratio)


@pytest.mark.parametrize(
    ("size", "ratio", "quality", "model", "shape", "differs"),
    [
        ("auto", "", "auto", ALL, (None, None), []),
        ("1024x1024", "", "auto", ALL, ("1:1", None), []),
        ("1536x1024", "", "standard", ALL, ("3:2", None), []),
        ("1024x1536", "", "low", PLAIN, ("2:3", None), []),
        ("1792x1024", "", "auto", PRO, ("16:9", None), ["ratio-nearest"]),
        ("1024x1792", "", "medium", PRO, ("9:16", None), ["ratio-nearest"]),
        ("512x512", "", "auto", ALL, ("1:1", "512"), []),
        ("256x256", "", "auto", ALL, ("1:1", "512"), []),
        ("512x512", "", "auto", PRO, ("1:1", None), ["size-nearest"]),
        ("512x512", "", "auto", PLAIN, ("1:1", None), ["size-nearest"]),
        ("2048x2048", "", "auto", PRO, ("1:1", "2K"), []),
        ("2048x2048", "", "auto", LITE, ("1:1", None), ["size-nearest"]),
        ("3840x2160", "", "auto", PRO, ("16:9", "4K"), []),
        ("4K", "", "auto", PRO, (None, "4K"), []),
        ("4K", "", "auto", PLAIN, (None, None), ["size-nearest"]),
        ("4K", "", "high", PRO, (None, "4K"), []),
        ("1K", "", "auto", ALL, (None, None), []),
        ("1024x1024", "", "high", ALL, ("1:1", "2K"), []),
        ("512x512", "", "hd", PRO, ("1:1", "2K"), []),
        ("auto", "", "max", PRO, (None, "2K"), []),
        ("auto", "", "xhigh", PLAIN, (None, None), []),
        ("1024x1024", "", "high", LITE, ("1:1", None), []),
        ("1024x1024", "16:9", "auto", PRO, ("16:9", None), []),
        ("2048x2048", "32:18", "auto", PRO, ("16:9", "2K"), []),
        ("auto", "7:4", "auto", PRO, ("16:9", None), ["ratio-nearest"]),
        ("auto", "1:8", "auto", ALL, ("1:8", None), []),
        ("auto", "1:8", "auto", PRO, ("9:16", None), ["ratio-nearest"]),
        ("3840x1280", "", "auto", PLAIN, ("21:9", None), ["ratio-nearest", "size-nearest"]),
    ],
)
def test_a_wish_becomes_what_the_model_takes_and_what_differs_is_said(
    size: str, ratio: str, quality: str, model: ImageModel, shape: tuple[str, str], differs: list[str]
) -> None:
    made = sizes.shape(size, ratio, quality, model)
    assert (made[:2], [hint.name for hint in made.differs]) == (shape, differs)


def test_what_differs_names_the_wish_and_what_was_asked_for_instead() -> None:
    of_ratio, of_size = sizes.shape("3840x1280", "", "auto", PLAIN).differs  # 4.9 million pixels
    assert "3840x1280" in of_ratio.sentence
    assert "21:9" in of_ratio.sentence
    assert "2K" in of_size.sentence
    assert "1K" in of_size.sentence


@settings(deadline=None)
@given(st.integers(1, 9999), st.integers(1, 9999), MODELS)
def test_the_ratio_is_the_one_that_is_fewest_times_as_wide_or_as_high(
    width: int, height: int, model: ImageModel
) -> None:
    def off(ratio: str) -> Fraction:
        across, down = map(int, ratio.split(":"))
        times = Fraction(width, height) / Fraction(across, down)
        return max(times, 1 / times)

    made = sizes.shape("auto", f"{width}:{height}", "auto", model)
    assert made.aspect_ratio is not None
    assert made.aspect_ratio in model.ratios
    assert float(off(made.aspect_ratio)) == pytest.approx(float(min(map(off, model.ratios))), rel=1e-9)
    assert bool(made.differs) == (off(made.aspect_ratio) != 1)


@settings(deadline=None)
@given(st.integers(16, 240), st.integers(16, 240), QUALITIES, MODELS)
def test_no_model_gets_a_size_or_a_ratio_that_it_does_not_take(
    across: int, down: int, quality: str, model: ImageModel
) -> None:
    try:
        made = sizes.shape(f"{16 * across}x{16 * down}", "", quality, model)
    except ValueError:
        assert max(across, down) > 3 * min(across, down)
        return
    assert made.image_size is None or made.image_size in model.sizes
    assert made.image_size != "1K", "which is what every model makes by itself"
    assert made.aspect_ratio in (model.ratios or COMMON_RATIOS)


@pytest.mark.parametrize(
    ("pixels", "name"),
    [("512x512", "512"), ("720x688", "512"), ("720x704", None), ("1536x1424", None), ("1536x1440", "2K")],
)
def test_a_class_begins_where_its_pixels_do(pixels: str, name: str | None) -> None:
    assert sizes.shape(pixels, "", "auto", ALL).image_size == name


def test_words_are_said_of_what_is_asked_for_and_of_nothing_else() -> None:
    assert sizes.words("", "auto", "low") == ""
    assert sizes.words("", "opaque", "low") == sizes.BACKGROUNDS["opaque"]
    assert sizes.words("vivid", "transparent", "high") == " ".join(
        (sizes.STYLES["vivid"], sizes.BACKGROUNDS["transparent"], sizes.FIDELITIES["high"])
    )
