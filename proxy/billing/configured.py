"""What a configuration makes of prices: the price book in force, and the catalogue of models."""

from __future__ import annotations

import structlog

from proxy.billing import taken_book
from proxy.billing.model_catalogue import ModelCatalogue
from proxy.billing.prices import PriceBook
from proxy.config.load import ConfigError
from proxy.config.schema import Settings

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


def open_book(settings: Settings) -> PriceBook:
    """The price book; the log says which, where it isn't the program's own. Raises ConfigError."""
    try:
        book = PriceBook.load(settings.prices, settings.storage.prices_file)
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    if book.taken:
        log.info("price_book", source=book.source)
    if warning := taken_book.outdated(book.taken):
        log.warning("price_book", what=warning)
    return book


def open_catalogue(settings: Settings, book: PriceBook) -> ModelCatalogue:
    """The catalogue of what callers may ask for by name: aliases that are globs have none."""
    return ModelCatalogue(book, settings.model_used, settings.alias_names)
