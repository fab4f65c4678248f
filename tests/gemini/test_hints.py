"""Every hint is one short sentence that a header can carry, stands in the docs under its name, and is told."""

from __future__ import annotations

import re
import string

import pytest

from proxy.errors import Hint
from proxy.gemini import hints, image_models
from tests.pages import ROOT, chapter_of, table_of

_MODEL = max((*image_models.IMAGE_MODELS, "gemini-3.1-flash-image-preview"), key=len)
LONGEST = {
    "model": _MODEL,
    "successor": _MODEL,
    "date": "2026-10-02",
    "sizes": "512, 1K, 2K, 4K",
    "ratios": ", ".join(image_models.IMAGE_MODELS["gemini-nano-banana-2.1"].ratios),
    "field": "responseModalities",
    "place": "generationConfig.imageConfig",
    "wait": "within a minute",
    "reason": "A" * 40,
    "version": "a" * 64,
    "length": 41,
    "asked": "4K",
    "pictures": 1000,
    "came": 10,
    "wish": "3840x2160",
    "ratio": "16:9",
    "size": "512",
    "names": ", ".join(["a" * 40] * 5),
}


@pytest.mark.parametrize("name", hints.SENTENCES)
def test_every_hint_is_one_short_line_of_ascii_whatever_is_filled_in(name: str) -> None:
    """As a header's value must be; and it ends as a sentence does."""
    told = hints.hint(name, **LONGEST)
    header, value = hints.field(told)
    assert header == b"x-weighbridge-hint"
    assert len(value) <= hints.LONGEST
    assert value.isascii()
    assert value.decode().isprintable()
    assert value.endswith(b".")
    assert not re.search(r"[{}]|  ", told.sentence)


def test_the_docs_have_each_hint_under_its_name_and_in_its_words_and_no_other() -> None:
    """docs/troubleshooting.md: what you see, what it means, and what to do, which is the sentence itself first."""
    rows = table_of(chapter_of("docs/troubleshooting.md", "Hints"))
    assert rows.keys() == hints.SENTENCES.keys()
    for name, (_, sees, means, does) in rows.items():
        assert len(sees) > 5, name
        assert len(means) > 5, name
        assert does.startswith(hints.SENTENCES[name]), name


def test_no_hint_is_written_down_that_nothing_tells() -> None:
    """Each name stands in the code beside the table of sentences."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "proxy").rglob("*.py") if path.name != "hints.py")
    code += (ROOT / "proxy/gemini/hints.py").read_text("utf-8").partition("def hint(")[2]
    untold = [name for name in hints.SENTENCES if f'"{name}"' not in code]
    assert untold == []


def test_what_is_filled_in_is_known() -> None:
    """No sentence has a place that the test of their length doesn't fill with the longest there is."""
    names = {name for text in hints.SENTENCES.values() for _, name, _, _ in string.Formatter().parse(text) if name}
    assert names == LONGEST.keys()


@pytest.mark.parametrize(
    ("model", "name", "sentence"),
    [
        (
            "gemini-2.5-flash-image",
            "model-retired",
            "gemini-2.5-flash-image was shut down on 2026-10-02: ask for gemini-nano-banana-2.1.",
        ),
        (
            "gemini-3-pro-image-preview",
            "successor-drew",
            "gemini-3-pro-image-preview was shut down on 2026-06-25: gemini-3-pro-image was asked in its place.",
        ),
        (
            "imagen-4.0-<script>",
            "model-retired",
            "Imagen 4 was shut down on 2026-08-17: ask for gemini-nano-banana-2.1.",
        ),
    ],
)
def test_a_model_that_was_shut_down_is_told_with_date_and_successor(model: str, name: str, sentence: str) -> None:
    assert hints.of_retired(model, name) == Hint(name, sentence)


@pytest.mark.parametrize("model", ["gemini-nano-banana-2.1", "gemini-3-pro-image", "", "x"])
def test_a_model_that_was_not_shut_down_has_no_successor(model: str) -> None:
    assert hints.of_retired(model) is None


@pytest.mark.parametrize(("came", "told"), [(0, False), (1, True), (2, True), (3, False)])
def test_fewer_pictures_than_asked_are_told_and_none_or_all_are_not(came: int, told: bool) -> None:
    found = hints.of_partial(came, 3)
    assert (found is not None) == told
    if found is not None:
        assert found.sentence.startswith(f"{came} of 3 pictures came")
