"""`weighbridge prices`: list, show, update."""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from proxy.billing import configured, model_catalogue, price_book, taken_book
from proxy.billing.assumptions import ASSUMPTIONS
from proxy.billing.model_catalogue import stated
from proxy.billing.prices import PriceBook
from proxy.cli import options, output, price_catalogue, price_update
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.schema import Settings

app = options.group("What a call costs: the rates in force, and where they come from.")

AtOption = Annotated[
    datetime | None,
    typer.Option(
        "--at",
        metavar="DATE",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
        help="The rates in force then, in Los Angeles time, where Google's dates begin. Default: now.",
        show_default=False,
    ),
]
_LISTED = ("input_text", "cached_text", "output_text", "output_image", "search_per_1000")


ModelsOption = Annotated[
    bool,
    typer.Option(
        "--models",
        help="The catalogue that callers get at /openai/v1/models: pictures by size, aliases, retired models.",
        show_default=False,
    ),
]


@app.command("list")
def list_(
    at: AtOption = None, models: ModelsOption = False, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """List every model that the price book or the configuration names, at standard rates, in USD per million tokens.

    Example: `weighbridge prices list --at 2027-01-01`
    """
    settings, when = options.settings(config), _moment(at)
    book = _book(settings)
    if models:
        price_catalogue.tell(configured.open_catalogue(settings, book), book.source, when, json=json)
        return
    found = [facts for name in book.listed() if (facts := _facts(book, name, when))]
    if json:
        output.document(found)
        return
    rows = [
        (
            facts["model"],
            *(facts["tiers"]["standard"].get(name, "") for name in _LISTED),
            _next_day(book, facts["model"], when),
            "" if facts["priced_as"] == facts["model"] else facts["priced_as"],
        )
        for facts in found
    ]
    heads = ("MODEL", "INPUT", "CACHED", "OUTPUT", "IMAGE OUTPUT", "1,000 SEARCHES", "CHANGES", "PRICED AS")
    output.table(heads, rows, right=range(1, 6))
    output.line(f"\nUSD per million tokens, from {book.source}. They change at midnight in Los Angeles.")
    output.line("One model in full:  weighbridge prices show MODEL")
    if warning := taken_book.outdated(book.taken):
        output.wrapped(warning)


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As in a request: gemini-3-pro-image.")],
    at: AtOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a model costs: rates in each tier, images by size, the next change, sources and assumptions.

    Of an alias, those of the model that callers get.

    Example: `weighbridge prices show gemini-3-pro-image`
    """
    settings, when = options.settings(config), _moment(at)
    book, asked = _book(settings), model.removeprefix("models/")
    used = settings.model_used(asked)
    facts = _facts(book, used, when)
    if facts is None:
        near = get_close_matches(used, book.models(), n=1, cutoff=0.8)
        guess = f" Did you mean {near[0]}?" if near else ""
        alias = f", which stands in for {asked} ([[models]])," if used != asked else ""
        raise CommandError(
            f"{used}{alias} has no price, neither in {book.source} nor in genai-prices.{guess} "
            "Give it one with [[prices]] in the configuration."
        )
    if json:
        output.document({**facts, "model_asked": asked})
    else:
        if used != asked:
            output.line(f"who asks for {asked} gets {used} ([[models]]), and pays for that:\n")
        _print(facts, when, _next_day(book, facts["model"], when))


app.command()(price_update.update)


def _book(settings: Settings) -> PriceBook:
    try:
        return PriceBook.load(settings.prices, settings.storage.prices_file)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _moment(at: datetime | None) -> int:
    return unix_us() if at is None else price_book.starts(at)


def _next_day(book: PriceBook, name: str, at: int) -> str:
    change = book.next_change(name, at)
    return "" if change is None else price_book.day_of(change)


def _facts(book: PriceBook, name: str, at: int) -> dict[str, Any] | None:
    """All that is known of a model's price, as JSON has it; None where it has none."""
    table = book.rates_at(name, at)
    if table is None:
        return None
    model = book.model(name, at)
    tables = {tier: book.rates_at(name, at, tier) or table for tier in book.tiers()}
    change = book.next_change(name, at)
    changed = None if change is None else book.rates_at(name, change)
    return {
        "model": name,
        "priced_as": table.model,
        "source": model_catalogue.source(table),
        "configured": sorted(table.configured - table.fallbacks.keys()),
        "note": model.note if model else "",
        "at": output.moment(at),
        "tiers": {tier: stated(of.rates, of.fallbacks) for tier, of in tables.items()},
        "long_above": table.long_above,
        "long_tiers": {tier: stated(of.long_rates, of.fallbacks) for tier, of in tables.items()}
        if table.long_above is not None
        else None,
        "fallbacks": dict(table.fallbacks),
        "search_per": table.search_per,
        "next_change": output.moment(change),
        "next_rates": None if changed is None else stated(changed.rates, changed.fallbacks),
        "images": model_catalogue.pictures(table),
        "sources": list(model.sources if model else ()),
        "assumptions": book.assumptions(name, at),
    }


def _print(facts: dict[str, Any], when: int, next_day: str) -> None:
    output.line(f"{facts['model']}, at {output.minute(when)} UTC" + (f" ({facts['note']})" if facts["note"] else ""))
    configured = f" ({', '.join(facts['configured'])})" if facts["configured"] else ""
    output.line(f"priced as {facts['priced_as']}, source: {facts['source']}{configured}\n")
    _print_tiers("USD PER MILLION", facts["tiers"])
    if any(name.startswith("second_") or name == "cache_storage" for name in facts["tiers"]["standard"]):
        output.line("(second_…: a second of video; cache_storage: a million tokens kept for an hour)")
    if facts["long_above"] is not None:
        output.line()
        _print_tiers(f"PROMPT OVER {facts['long_above']:,}", facts["long_tiers"])
    if facts["images"]:
        output.line()
        rows = [(size, str(image["tokens"]), image["usd"]) for size, image in facts["images"].items()]
        output.table(("IMAGE SIZE", "TOKENS", "USD EACH"), rows, right=(1, 2))
    output.line()
    if next_day:
        standard = facts["tiers"]["standard"]
        new = ((name, standard.get(name, "-"), usd) for name, usd in facts["next_rates"].items())
        changes = ", ".join(f"{name} {old} → {usd}" for name, old, usd in new if old != usd)
        output.line(f"next change on {next_day}, at midnight in Los Angeles: {changes}")
    else:
        output.line("next change: none announced")
    for source in facts["sources"]:
        output.line(f"source: {source}")
    output.line("\nAssumptions (docs/metering.md):")
    for name, says in facts["assumptions"].items():
        about = ASSUMPTIONS[name].operations if name in ASSUMPTIONS else ()
        output.wrapped(f"{name}: {says}" + (f" (of {', '.join(about)})" if about else ""), 2)
    output.line("Try them with your own key:  weighbridge doctor --assumptions")


def _print_tiers(head: str, tiers: dict[str, dict[str, str]]) -> None:
    rows = [(name, *(rates.get(name, "") for rates in tiers.values())) for name in tiers["standard"]]
    output.table((head, *(tier.upper() for tier in tiers)), rows, right=range(1, len(tiers) + 1))
