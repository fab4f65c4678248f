"""What a record tells of the answer that it is charged by: its hint."""

from __future__ import annotations

from proxy.billing.charge import table_of
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord
from proxy.errors import Hint
from proxy.gemini import answer_hints
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.hints import hint
from proxy.gemini.reading import Reading


def of_charged(
    record: UsageRecord, reading: Reading, facts: BodyFacts, quantities: dict[str, int], book: PriceBook
) -> Hint | None:
    """What a record calls for that `charge_reading` has filled and priced by `quantities`; None where all is well."""
    tokens, thoughts = record.candidates_token_count or 0, record.thoughts_token_count or 0
    if found := answer_hints.of_answer(reading, record.model, facts, tokens=tokens, thoughts=thoughts):
        return found
    if not reading.complete or reading.errored or reading.unseen:
        return None
    if not quantities:
        return hint("no-usage")
    if facts.image_size in _LARGER and reading.images and _is_of_1k(record, reading, facts, book):
        return hint("smaller-picture", asked=facts.image_size)
    return None


_LARGER = ("2K", "4K")


def _is_of_1k(record: UsageRecord, reading: Reading, facts: BodyFacts, book: PriceBook) -> bool:
    """Whether the pictures have as many tokens as those of 1K, which another size doesn't have."""
    table = table_of(record, book)
    if table is None or reading.uncounted:
        return False
    small, asked = table.image_tokens("1K"), table.image_tokens(facts.image_size)
    counted = (record.candidates_tokens_details or {}).get("IMAGE")
    return None not in (small, asked) and small != asked and counted == (small or 0) * reading.images
