"""`weighbridge prices list --models`: the catalogue that callers get, for whoever runs the proxy."""

from __future__ import annotations

from typing import Any

from proxy.billing.model_catalogue import ModelCatalogue
from proxy.cli import output
from proxy.gemini.image_models import COMMON_RATIOS

_RATES = ("input_text", "output_text", "output_image")
_SIZES = ("512", "1K", "2K", "4K")


def tell(catalogue: ModelCatalogue, source: str, at: int, *, json: bool) -> None:
    """Prints all that can be asked for by name at `at`; as JSON, what /openai/v1/models answers a key that may all."""
    documents = [entry.document for entry in catalogue.entries(at)]
    if json:
        output.document({"object": "list", "data": documents})
        return
    heads = ("MODEL", "INPUT", "OUTPUT", "IMAGE OUTPUT", *(f"{size} PICTURE" for size in _SIZES), "")
    output.table(heads, [_row(document) for document in documents], right=range(1, 8))
    output.line()
    output.wrapped(
        f"USD per million tokens, and USD per picture by its size, from {source}. Pictures come in the aspect ratios "
        f"{', '.join(COMMON_RATIOS)}, and in those that are named besides."
    )
    output.line("What a key gets:  curl -H 'Authorization: Bearer KEY' BASE/openai/v1/models")


def _row(document: dict[str, Any]) -> tuple[str, ...]:
    ours = document["x_weighbridge"]
    rates, images = ours["rates"] or {}, ours["images"]
    sizes = images["sizes"] if images else {}
    prices = (sizes.get(size, {}).get("usd") or "" for size in _SIZES)
    return document["id"], *(rates.get(name, "") for name in _RATES), *prices, "; ".join(_notes(ours, images))


def _notes(ours: dict[str, Any], images: dict[str, Any] | None) -> list[str]:
    notes = []
    if ours["alias_of"]:
        notes.append(f"alias of {ours['alias_of']}")
    if retired := ours["retired"]:
        notes.append(f"shut down on {retired['on']}: {retired['successor']} answers")
    elif images and (more := [ratio for ratio in images["aspect_ratios"] if ratio not in COMMON_RATIOS]):
        notes.append(f"also {' '.join(more)}")
    if ours["rates"] is None:
        notes.append("no price: [[prices]] sets one")
    return notes
