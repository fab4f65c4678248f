"""A usage record as a call of an image model leaves it, for the tests of the ledger."""

from __future__ import annotations

from typing import Any

from proxy.billing.records import UsageRecord

NOON = 1_795_262_400_000_000
"""2026-11-21T12:00:00Z in Unix microseconds."""


def sample(record_id: str, **changes: Any) -> UsageRecord:
    """A settled call at NOON: 7 tokens of text in, one image of 1,120 tokens out, 0.0336021 USD."""
    values: dict[str, Any] = {
        "record_id": record_id,
        "request_id": f"request-{record_id}",
        "started_at": NOON,
        "finished_at": NOON + 4_000_000,
        "project": "acme",
        "key_id": "k1",
        "key_name": "web",
        "upstream": "google",
        "operation": "generateContent",
        "model": "gemini-2.5-flash-image",
        "outcome": "ok",
        "http_status": 200,
        "usage": '{"promptTokenCount": 7,"candidatesTokenCount":1120}',
        "prompt_token_count": 7,
        "candidates_token_count": 1120,
        "total_token_count": 1127,
        "prompt_tokens_details": {"TEXT": 7},
        "candidates_tokens_details": {"IMAGE": 1120},
        "images": 1,
        "cost_usd": 33_602_100,
        "rates": {"input_text": (7, 300_000_000), "output_image": (1120, 30_000_000_000)},
        "model_asked": "gemini-2.5-flash-image",
        "period": "2026-11-21",
        "attempts": [{"upstream": "google", "status": 200}],
    }
    return UsageRecord(**values | changes)


def lease(record_id: str, **changes: Any) -> UsageRecord:
    """The same call as its lease holds it: to be billed by estimate."""
    return sample(record_id, **{"outcome": "unsettled", "estimated": True, "finished_at": None} | changes)
