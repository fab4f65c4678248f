"""What models.list and models.get answer where there are aliases: under the names that callers ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from proxy.gemini import spans
from proxy.gemini.aliases import PREFIX, splice_of
from proxy.gemini.edits import Splice, spliced


class Page(NamedTuple):
    """How a list of models looks."""

    models: str
    """The member that holds them."""
    names: tuple[str, ...]
    """What a model calls itself by: first what it is known by."""


NATIVE = Page("models", ("name", "baseModelId"))
COMPATIBLE = Page("data", ("id",))
"""The compatibility layer's."""


def listed(body: bytes, offered: Iterable[tuple[str, str]], page: Page = NATIVE) -> bytes:
    """A page of models.list with an entry for each alias whose model is on it, right behind that model's.

    `offered`: aliases, each with its model. The entry is the model's own under the alias' name, and in the same
    spacing. An alias that the page lists by itself gets no other. Raises ValueError for what is no such page.
    """
    text = str(body, "latin-1")
    models = spans.fields(text, spans.begins(text)).get(page.models)
    if models is None:
        return body
    entries = {_name(text, span, page): span for span in spans.elements(text, models[0])}
    splices = [
        Splice(entries[model][1], entries[model][1], _entry(text, entries[model], model, alias, page))
        for alias, model in dict(offered).items()
        if model in entries and alias not in entries
    ]
    return spliced(body, sorted(splices, key=lambda splice: splice.start))


def renamed(body: bytes, model: str, alias: str, page: Page = NATIVE) -> bytes:
    """What models.get says of a model, under an alias' name. Raises ValueError for what is no model."""
    text = str(body, "latin-1")
    return spliced(body, _renaming(text, spans.begins(text), model, alias, page))


def _name(text: str, span: spans.Span, page: Page) -> str:
    name = spans.fields(text, span[0]).get(page.names[0])
    return "" if name is None else _id(spans.read(text, name))


def _entry(text: str, span: spans.Span, model: str, alias: str, page: Page) -> bytes:
    """What stands behind an entry of a list where another one under the alias' name follows it."""
    start, end = span
    gap = start
    while text[gap - 1] in " \t\r\n":
        gap -= 1
    renaming = _renaming(text, start, model, alias, page)
    return b"," + spliced(text[gap:end].encode("latin-1"), renaming, at=gap)


def _renaming(text: str, start: int, model: str, alias: str, page: Page) -> list[Splice]:
    """Puts the alias' name wherever the object that begins at `start` calls itself by the model's."""
    fields = spans.fields(text, start)
    return sorted(_splices(text, [fields[name] for name in page.names if name in fields], model, alias))


def _splices(text: str, values: Iterable[spans.Span], model: str, alias: str) -> Iterator[Splice]:
    for span in values:
        if _id(spans.read(text, span)) == model:
            yield splice_of(text, span, alias)


def _id(value: object) -> str:
    return value.removeprefix(PREFIX) if isinstance(value, str) else ""
