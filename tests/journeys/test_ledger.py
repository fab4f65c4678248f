"""A thousand random calls: the ledger says what the emulator billed, call by call; costs are worked out by hand."""

from __future__ import annotations

import asyncio
import json
import random
from fractions import Fraction
from typing import Any

import httpx2

from proxy.billing.records import UsageRecord
from tests.stand import Weighbridge

CALLS = 1000
AT_ONCE = 24

# USD per million tokens, typed from Google's price list for 2026-11-21: text in, cached text in, text out, image out.
RATES = {
    "gemini-nano-banana-2.1": ("1.50", "1.50", "7.50", "30"),
    "gemini-3.1-flash-image": ("0.50", "0.50", "3", "60"),
    "gemini-3-pro-image": ("2", "2", "12", "120"),
    "gemini-3.8-flash": ("0.75", "0.075", "3.75", "0"),
    "gemini-3.5-flash-lite": ("0.30", "0.03", "2.50", "0"),
    "gemini-4-carbon": ("2", "0.10", "10", "0"),
}
SEARCH = Fraction(14, 1000)
IMAGE_MODELS = [model for model in RATES if "image" in model or "banana" in model]
TEXT_MODELS = [model for model in RATES if model not in IMAGE_MODELS]
DIRECTIVES = [
    "", "", "", "[[images=3]]", "[[refuse=IMAGE_SAFETY]]", "[[block=SAFETY]]", "[[status=429]]", "[[status=400]]",
    "[[status=503]]", "[[thoughts=137]]", "[[gzip]]", "[[length]]", "[[finish=MAX_TOKENS]]", "[[lead-text=on]]",
]  # fmt: skip
TEXT_DIRECTIVES = ["[[cached=100]]", "[[search=2]]", "[[tool-use=50]]", "[[chunks=7]]", "[[text-bytes=70000]]"]
REPORTED = {
    "prompt_token_count": "promptTokenCount",
    "cached_content_token_count": "cachedContentTokenCount",
    "tool_use_prompt_token_count": "toolUsePromptTokenCount",
    "thoughts_token_count": "thoughtsTokenCount",
    "candidates_token_count": "candidatesTokenCount",
    "total_token_count": "totalTokenCount",
}
DETAILS = {"prompt_tokens_details": "promptTokensDetails", "candidates_tokens_details": "candidatesTokensDetails"}


def a_request(chance: random.Random, number: int) -> tuple[str, dict[str, Any]]:
    """A path and a body. The number in the prompt is how the two accounts are brought together."""
    image = chance.random() < 0.4
    model = chance.choice(IMAGE_MODELS if image else TEXT_MODELS)
    directive = chance.choice(DIRECTIVES if image else [d for d in DIRECTIVES if "images" not in d] + TEXT_DIRECTIVES)
    verb = chance.choice(["generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent"])
    if "search" in directive or "[[length" in directive:
        verb = "generateContent"
    body: dict[str, Any] = {"contents": [{"parts": [{"text": f"call {number} {directive}"}]}]}
    if "search" in directive:
        body["tools"] = [{"googleSearch": {}}]
    if image:
        size = chance.choice(["512", "1K"]) if model == "gemini-nano-banana-2.1" else "1K"
        body["generationConfig"] = {"imageConfig": {"imageSize": size, "aspectRatio": chance.choice(["1:1", "16:9"])}}
    return f"/v1beta/models/{model}:{verb}", body


async def make_calls(stand: Weighbridge, key: str) -> dict[int, int]:
    """Makes the calls; the HTTP status of each by its number."""
    chance, statuses = random.Random(20261121), {}
    turns = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(base_url=stand.base_url, headers={"x-goog-api-key": key}, timeout=60) as client:

        async def one(number: int) -> None:
            path, body = a_request(chance, number)
            async with turns:
                statuses[number] = (await client.post(path, json=body)).status_code

        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLS):
                tasks.create_task(one(number))
    return statuses


def by_hand(entry: dict[str, Any]) -> int:
    """Nano-dollars of an entry of the emulator's account, half to even."""
    text_in, cached, text_out, image_out = (Fraction(rate) for rate in RATES[entry["model_version"]])
    usage = {name: value or 0 for name, value in entry["usage"].items() if not isinstance(value, dict)}
    images = (entry["usage"]["candidates_tokens_details"] or {}).get("IMAGE", 0)
    prompt = usage["prompt_token_count"] + usage["tool_use_prompt_token_count"]
    output = usage["total_token_count"] - prompt
    cost = text_in * (prompt - usage["cached_content_token_count"]) + cached * usage["cached_content_token_count"]
    cost += text_out * (output - images) + image_out * images
    return round(cost * 1000 + SEARCH * 10**9 * entry["searches"])


def same(record: UsageRecord, entry: dict[str, Any]) -> None:
    """One record against one entry, field by field."""
    assert record.http_status == entry["http_status"]
    assert record.operation == entry["operation"]
    assert record.cost_usd == by_hand(entry), (record, entry)
    assert (record.outcome, record.estimated) == ("ok", False)
    assert (record.model_asked, record.model_version) == (entry["model"], entry["model_version"])
    blocked = "SAFETY" if "[[block=SAFETY]]" in entry["prompt"] else None  # Google names it promptFeedback.blockReason
    assert (record.response_id, record.finish_reason) == (entry["id"], entry["finish_reason"] or blocked)
    assert (record.images, record.searches) == (entry["images"], entry["searches"])
    assert record.service_tier == entry["service_tier"]
    assert record.usage is not None
    assert json.loads(record.usage) == entry["reported"]
    for column, name in REPORTED.items():
        assert getattr(record, column) == entry["reported"].get(name), column
    for column, name in DETAILS.items():
        said = {one["modality"]: one["tokenCount"] for one in entry["reported"].get(name, ())}
        assert (getattr(record, column) or {}) == said, column


async def test_the_ledger_equals_the_emulators_own_account(stand: Weighbridge, upstream: str) -> None:
    httpx2.delete(f"{upstream}/emulator/account")
    statuses = await make_calls(stand, stand.key())
    page = httpx2.get(f"{upstream}/emulator/account", params={"limit": CALLS * 2}).json()
    entries = {entry["prompt"].split()[1]: entry for entry in page["entries"]}
    assert len(page["entries"]) == len(entries) == CALLS
    records = stand.records()
    assert len(records) == CALLS
    answered = {entry["id"]: entry for entry in page["entries"] if entry["http_status"] < 400}
    assert {record.response_id for record in records} - {None} == set(answered)
    for record in records:
        if record.response_id is not None:
            same(record, answered[record.response_id])
    failed = sorted(record.http_status or 0 for record in records if record.response_id is None)
    assert failed == sorted(entry["http_status"] for entry in entries.values() if entry["http_status"] >= 400)
    errors = [record for record in records if record.response_id is None]
    assert {(record.outcome, record.usage, record.cost_usd) for record in errors} == {("upstream_error", None, 0)}
    assert sorted(statuses.values()) == sorted(record.http_status or 0 for record in records)
