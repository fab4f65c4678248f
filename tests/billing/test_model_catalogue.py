"""The catalogue of models, and that what it states is what calls are charged."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from proxy.billing.model_catalogue import Entry, ModelCatalogue, pictures
from proxy.billing.price_book import starts
from proxy.billing.prices import PriceBook
from proxy.config.schema import Alias, Settings
from proxy.gemini import image_models
from tests.billing.sample import NOON

BOOK = PriceBook.load()
TO = "gemini-nano-banana-2.1"


class Price(NamedTuple):
    model: str
    from_: None = None
    input_text: str | None = None
    output_text: str | None = None
    output_image: str | None = None


def catalogue(*aliases: tuple[str, str], book: PriceBook = BOOK) -> ModelCatalogue:
    settings = Settings(models=tuple(Alias(match=match, use=use) for match, use in aliases))
    return ModelCatalogue(book, settings.model_used, settings.alias_names)


def by_id(made: ModelCatalogue, at: int = NOON) -> dict[str, Entry]:
    entries = made.entries(at)
    assert len({entry.id for entry in entries}) == len(entries)
    return {entry.id: entry for entry in entries}


def ours(entry: Entry | None) -> dict[str, Any]:
    assert entry is not None
    found: dict[str, Any] = entry.document["x_weighbridge"]
    return found


def test_a_models_rates_sizes_and_ratios_are_those_that_its_calls_are_charged_at() -> None:
    told = ours(by_id(catalogue())[TO])
    assert told["rates"] == {"input_text": "1.5", "output_text": "7.5", "output_image": "30", "search_per_1000": "14"}
    assert told["images"]["sizes"]["4K"] == {"tokens": 3780, "usd": "0.1134"}
    assert told["images"]["aspect_ratios"] == list(image_models.offers(TO).ratios)
    table = BOOK.rates_at(TO, NOON)
    assert table is not None
    assert table.price({"output_image": 3780}).cost == 113_400_000
    assert pictures(table).keys() == told["images"]["sizes"].keys()


@pytest.mark.parametrize("model", image_models.IMAGE_MODELS)
def test_every_picture_that_can_be_asked_for_has_its_price(model: str) -> None:
    images = ours(catalogue().find(model, NOON))["images"]
    assert all(size["usd"] for size in images["sizes"].values())


def test_models_that_make_pictures_come_first_and_text_models_have_none() -> None:
    entries = catalogue().entries(NOON)
    makes = [ours(entry)["images"] is not None for entry in entries]
    assert makes == sorted(makes, reverse=True)
    assert True in makes
    assert False in makes


def test_each_is_as_openai_has_a_model() -> None:
    for entry in catalogue().entries(NOON):
        assert list(entry.document) == ["id", "object", "created", "owned_by", "shutdown_date", "x_weighbridge"]
        assert (entry.document["object"], entry.document["owned_by"]) == ("model", "google")
        assert isinstance(entry.document["created"], int)
        assert entry.document["created"] > 1_700_000_000


def test_a_retired_model_tells_since_when_and_has_the_rates_of_the_one_that_answers() -> None:
    told = by_id(catalogue())
    assert told["gemini-3-pro-image-preview"].document["shutdown_date"] == "2026-06-25"
    assert told[TO].document["shutdown_date"] is None
    retired = ours(told["gemini-3-pro-image-preview"])
    assert retired["retired"] == {"on": "2026-06-25", "successor": "gemini-3-pro-image"}
    assert retired["answered_by"] == retired["priced_as"] == "gemini-3-pro-image"
    assert retired["rates"] == ours(told["gemini-3-pro-image"])["rates"]
    assert ours(told["gemini-2.5-flash-image"])["rates"] == ours(told[TO])["rates"]
    assert {entry.id for entry in told.values() if ours(entry)["retired"]} == set(image_models.RETIRED_IDS)
    assert ours(catalogue().find("imagen-4.0-generate-001", NOON))["answered_by"] == TO


def test_an_alias_is_listed_as_callers_ask_for_it_with_what_it_leads_to() -> None:
    made = catalogue(
        ("ours", "gemini-3-pro-image"), ("gemini-3.8-*", "gemini-4-argon"), ("old", "gemini-2.5-flash-image")
    )
    told = by_id(made)
    assert (ours(told["ours"])["alias_of"], told["ours"].used) == ("gemini-3-pro-image", "gemini-3-pro-image")
    assert ours(told["ours"])["images"] == ours(told["gemini-3-pro-image"])["images"]
    assert "gemini-3.8-*" not in told
    assert ours(told["gemini-3.8-flash"])["alias_of"] == "gemini-4-argon"
    assert ours(made.find("gemini-3.8-none", NOON))["answered_by"] == "gemini-4-argon"
    assert (told["old"].used, ours(told["old"])["retired"]["successor"]) == (TO, TO), "as the front draws it"


def test_an_alias_of_a_model_without_a_price_is_there_without_one() -> None:
    entry = by_id(catalogue(("ours", "gemini-99")))["ours"]
    assert not entry.priced
    assert (ours(entry)["rates"], ours(entry)["images"], ours(entry)["priced_as"]) == (None, None, None)


def test_what_only_genai_prices_know_is_found_and_what_nobody_knows_is_not() -> None:
    assert ours(catalogue().find("gemini-3-flash-preview", NOON))["price_source"].startswith("genai-prices ")
    assert catalogue().find("gemini-99", NOON) is None


def test_a_change_of_rates_is_announced_and_in_force_when_its_time_has_come() -> None:
    made, change = catalogue(), starts(BOOK.made_on.replace(month=12, day=1))
    before = ours(by_id(made)["gemini-4-argon"])
    assert (before["rates"]["input_text"], before["next_rates"]["input_text"]) == ("2", "4")
    assert before["next_change"] == "2026-12-01T08:00:00.000000Z"
    after = ours(by_id(made, change)["gemini-4-argon"])
    assert (after["rates"]["input_text"], after["next_change"], after["next_rates"]) == ("4", None, None)


def test_the_configurations_rates_count_and_say_so() -> None:
    own = PriceBook.load([Price("gemini-3-pro-image", output_image="100"), Price("our-pictures", None, "1", "2", "3")])
    told = by_id(catalogue(book=own))
    assert ours(told["gemini-3-pro-image"])["images"]["sizes"]["4K"] == {"tokens": 2000, "usd": "0.2"}
    assert ours(told["gemini-3-pro-image"])["price_source"] == "configuration"
    assert ours(told["our-pictures"])["images"]["sizes"] == {"1K": {"tokens": None, "usd": None}}
    long = ours(told["gemini-2.5-pro"])
    assert (long["long_above"], long["long_rates"]["input_text"]) == (200_000, "2.5")
