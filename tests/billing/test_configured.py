"""What a configuration makes of prices."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from proxy.billing import taken_book
from proxy.billing.configured import open_book, open_catalogue
from proxy.config.load import ConfigError
from proxy.config.schema import Alias, Price, Settings, Storage
from tests.billing.sample import NOON
from tests.billing.test_taken_book import TODAY, TOML


def test_the_configurations_own_rates_and_names_are_in_force() -> None:
    prices = (Price(model="gemini-3-pro-image", input_text=3),)
    settings = Settings(prices=prices, models=(Alias(match="ours", use="gemini-3-pro-image"),))
    with capture_logs() as logged:
        entry = open_catalogue(settings, open_book(settings)).find("ours", NOON)
    assert entry is not None
    assert entry.document["x_weighbridge"]["rates"]["input_text"] == "3"
    assert logged == [], "the program's own book is nothing to tell of"


def test_another_book_is_told_of_and_a_bad_one_is_refused(tmp_path: object) -> None:
    settings = Settings(storage=Storage(data_dir=tmp_path))  # type: ignore[arg-type]
    older = TOML.replace("version = 2026-11-21", "version = 2026-11-01")
    taken_book.keep(settings.storage.prices_file, taken_book.take(older.encode(), "old.toml", TODAY))
    with capture_logs() as logged:
        assert open_book(settings).source == "price book 2026-11-01"
    assert [(line["log_level"], line["event"]) for line in logged] == [
        ("info", "price_book"),
        ("warning", "price_book"),
    ]
    settings.storage.prices_file.write_text("{}")
    with pytest.raises(ConfigError):
        open_book(settings)
