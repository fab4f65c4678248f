"""What the oracle says is what anyone finds with a pencil."""

from __future__ import annotations

from collections import Counter

from tests.chaos import oracle

NOVEMBER, JANUARY = 1_795_219_200_000_000, 1_799_000_000_000_000


def test_a_picture_costs_what_the_docs_work_out_by_hand() -> None:
    """The example of docs/metering.md."""
    usage = {
        "promptTokenCount": 2076,
        "totalTokenCount": 3545,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
    }
    weighed = oracle.reported(usage, "gemini-3.1-flash-image", 1, None)
    assert weighed == {"text": 2076, "out": 349, "image out": 1120, "image": 0, "cached": 0}
    assert oracle.cost("gemini-3.1-flash-image", "standard", NOVEMBER, weighed) == 69_285_000


def test_tier_day_length_and_searches_are_reckoned_with() -> None:
    thousand = Counter({"text": 1000})
    assert oracle.cost("gemini-3.8-flash", None, NOVEMBER, thousand) == 750_000
    assert oracle.cost("gemini-3.8-flash", "priority", NOVEMBER, thousand) == 1_350_000
    assert oracle.cost("gemini-3.8-flash", None, JANUARY, thousand) == 1_500_000
    assert oracle.cost("gemini-2.5-pro", None, NOVEMBER, Counter({"text": 200_001})) == 200_001 * 2500
    assert oracle.cost("gemini-2.5-pro", None, NOVEMBER, thousand, searches=3) == 1_250_000 + 35_000_000
    assert oracle.cost("gemini-3.8-flash", None, NOVEMBER, thousand, searches=3) == 750_000 + 42_000_000
