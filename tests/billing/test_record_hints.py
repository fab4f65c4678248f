"""What the record of an answer is told by its bill: pictures of another size, no usage; and by the answer itself."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.billing import charge
from proxy.billing.record_hints import of_charged
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.reading import Reading
from tests.billing.test_charge import BOOK, PICTURE, reading, record

FLASH, PRO = "gemini-3.1-flash-image", "gemini-3-pro-image"


def told(said: Reading, model: str = FLASH, size: str | None = None) -> str | None:
    """The name of what is told of an answer to a request for a picture of that size."""
    row = record(model)
    quantities = charge.charge_reading(row, said, size, BOOK)
    found = of_charged(row, said, BodyFacts(image_size=size), quantities, BOOK)
    return found.name if found else None


def pictures(*tokens: int, **fields: Any) -> Reading:
    """An answer with pictures of so many tokens each."""
    details = [{"modality": "IMAGE", "tokenCount": sum(tokens)}]
    return reading(PICTURE | {"candidatesTokensDetails": details}, images=len(tokens), finish_reason="STOP", **fields)


@pytest.mark.parametrize(
    ("model", "size", "tokens", "name"),
    [
        (FLASH, "4K", 1120, "smaller-picture"),
        (FLASH, "2K", 1120, "smaller-picture"),
        (FLASH, "4K", 2520, None),
        (FLASH, "2K", 1680, None),
        (FLASH, "4K", 1680, None),
        (FLASH, "1K", 1120, None),
        (FLASH, "512", 1120, None),
        (FLASH, None, 1120, None),
        (PRO, "2K", 1120, None),
        (PRO, "4K", 1120, "smaller-picture"),
        ("reseller-draws-1", "4K", 1120, None),
    ],
)
def test_a_picture_of_fewer_tokens_than_its_size_has_is_told(
    model: str, size: str | None, tokens: int, name: str | None
) -> None:
    """Of gemini-3-pro-image, pictures of 1K and 2K have as many: there nothing can be told."""
    assert told(pictures(tokens), model, size) == name


def test_what_was_not_seen_whole_is_not_told() -> None:
    """Neither a size nor that there is no usage is told of an answer that broke off or couldn't be counted."""
    assert told(pictures(1120, uncounted=True), FLASH, "4K") is None
    assert told(pictures(1120, errored=True), FLASH, "4K") is None
    assert told(Reading(complete=False)) is None
    assert told(Reading(complete=True, unseen=True)) is None


@pytest.mark.parametrize("usage", [None, {}, {"promptTokenCount": 0, "totalTokenCount": 0}])
def test_an_answer_without_usage_is_told(usage: dict[str, Any] | None) -> None:
    assert told(reading(usage, images=1)) == "no-usage"


def test_what_the_answer_shows_goes_before_what_its_bill_does() -> None:
    assert told(reading(None, finish_reason="IMAGE_SAFETY")) == "picture-withheld"
