"""What a call costs: a record filled by estimate before the call, and by what the response said after it."""

from __future__ import annotations

from proxy.billing.estimates import IMAGE_TOKENS, estimate, picture_tokens
from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import UNPRICED, RateTable
from proxy.billing.records import UsageRecord
from proxy.gemini import openai_bodies, openai_usage
from proxy.gemini import usage as usages
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.reading import Reading
from proxy.gemini.usage import Usage


def charge_estimate(record: UsageRecord, facts: BodyFacts, book: PriceBook) -> dict[str, int]:
    """Makes the record what is billed if nobody learns better. Returns the quantities."""
    record.estimated = True
    table = table_of(record, book)
    quantities = estimate(facts, record.operation, table)
    _price(record, quantities, table)
    return quantities


def charge_nothing(record: UsageRecord) -> None:
    """Google doesn't bill a request that failed with 400 or more (billing FAQ, 2026-09-20)."""
    record.estimated = False
    record.cost_usd = 0
    record.rates = {}


def charge_reading(record: UsageRecord, reading: Reading, image_size: str | None, book: PriceBook) -> dict[str, int]:
    """Fills the record with what the response said, and prices that. Returns the quantities.

    Where the response said nothing of usage, or nothing that amounts to anything, the record keeps its estimate, at the
    rates of who answered, and there are no quantities: no call is silently free. A picture that came is charged even if
    the usage that would have counted it did not.
    """
    record.model_version = reading.model_version
    record.response_id = reading.response_id
    record.finish_reason = reading.finish_reason
    record.images = reading.images
    record.searches = reading.searches
    if record.operation == openai_bodies.PICTURES:
        return _charge_pictures(record, reading, book)
    if reading.usage is None:
        _price_estimate(record, reading.images, image_size, book)
        return {}
    usage = usage_of(record.operation, reading.usage)
    record.usage = reading.usage.decode()
    record.service_tier = usage.service_tier or record.service_tier
    record.prompt_token_count = usage.prompt_token_count
    record.cached_content_token_count = usage.cached_content_token_count
    record.tool_use_prompt_token_count = usage.tool_use_prompt_token_count
    record.thoughts_token_count = usage.thoughts_token_count
    record.candidates_token_count = usage.candidates_token_count
    record.total_token_count = usage.total_token_count
    record.prompt_tokens_details = usages.details(usage.prompt_tokens_details)
    record.candidates_tokens_details = usages.details(usage.candidates_tokens_details)
    table = table_of(record, book)
    quantities = weigh(reading, usage, image_size, table, record.operation)
    if quantities.keys() <= {"search", "maps"}:  # a usage of no tokens is none
        _price_estimate(record, reading.images, image_size, book)
        return {}
    broken = reading.errored or not reading.complete
    record.estimated = broken or reading.unseen or reading.uncounted or usage.malformed
    if broken or reading.unseen:
        quantities = _with_pictures(quantities, reading.images, image_size, table)
    _price(record, quantities, table)
    return quantities


def _charge_pictures(record: UsageRecord, reading: Reading, book: PriceBook) -> dict[str, int]:
    """Of pictures made in the compatibility layer, which says no usage of them: each that came, and nothing else.

    What the count of them isn't sure of takes the place of a usage that may have passed unseen.
    """
    record.usage = reading.usage.decode() if reading.usage is not None else None
    table = table_of(record, book)
    reading.unseen = reading.uncounted or reading.errored or not reading.complete
    quantities = {"output_image": reading.images * picture_tokens(table)}
    if reading.unseen:
        estimated = {name: quantity for name, (quantity, _) in (record.rates or {}).items()}
        quantities["output_image"] = max(quantities["output_image"], estimated.get("output_image", 0))
    record.estimated = reading.unseen
    _price(record, quantities, table)
    if not quantities["output_image"]:
        record.cost_usd = 0  # of a model without a price, too
    return quantities


def usage_of(operation_name: str, raw: bytes) -> Usage:
    """A usage object of an operation's, in Google's terms."""
    return openai_usage.parse(raw) if operation_name in openai_bodies.OPERATIONS else usages.parse(raw)


def weigh(
    reading: Reading,
    usage: Usage,
    image_size: str | None,
    table: RateTable | None,
    operation_name: str = "generateContent",
) -> dict[str, int]:
    """The quantities of a response. `usage` is the one in it, `image_size` was asked for, `table` has its rates."""
    if operation_name in openai_bodies.OPERATIONS:
        return openai_usage.quantities(usage)
    quantities = usages.quantities(
        usage,
        images_seen=reading.images,
        image_model=table is not None and table.is_image_model,
        image_tokens_each=None if table is None else table.image_tokens(image_size),
    )
    for name, times in (("search", reading.searches), ("maps", reading.maps)):
        if times:
            quantities[name] = times
    return quantities


def table_of(record: UsageRecord, book: PriceBook) -> RateTable | None:
    """The rates of a call, by who answered, its tier and the time that it started; None where it has no price."""
    return book.table(record.model_version, record.model, record.model_asked, record.service_tier, record.started_at)


def _price_estimate(record: UsageRecord, images: int, image_size: str | None, book: PriceBook) -> None:
    """Prices the estimate that stands in the record by what is known by now; leaves it where that makes no price."""
    table = table_of(record, book)
    estimated = {name: quantity for name, (quantity, _) in (record.rates or {}).items()}
    quantities = _with_pictures(estimated, images, image_size, table)
    if table is not None and quantities and quantities.keys() <= table.rates.keys():
        _price(record, quantities, table)


def _with_pictures(
    quantities: dict[str, int], images: int, image_size: str | None, table: RateTable | None
) -> dict[str, int]:
    """Quantities with at least the tokens of the pictures that came (E-PICTURES-SEEN)."""
    if not images or table is None or not table.is_image_model:
        return quantities
    each = table.image_tokens(image_size) or table.image_tokens() or IMAGE_TOKENS
    return {**quantities, "output_image": max(quantities.get("output_image", 0), images * each)}


def _price(record: UsageRecord, quantities: dict[str, int], table: RateTable | None) -> None:
    priced = UNPRICED if table is None else table.price(quantities)
    record.cost_usd, record.priced_as, record.price_source = priced.cost, priced.priced_as, priced.source
    lacking = {name: (quantity, None) for name, quantity in quantities.items() if quantity and name not in priced.rates}
    record.rates = {**priced.rates, **lacking}
