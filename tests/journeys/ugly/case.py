"""What a case of the corpus is, and how answers are built: usages, candidates, pictures, streams."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

Charged = dict[str, tuple[int, str]]
"""Quantities, and USD per million of each."""

LITE, IMAGE, PRO_IMAGE = "gemini-3.5-flash-lite", "gemini-3.1-flash-image", "gemini-3-pro-image"
PRO, FLASH = "gemini-2.5-pro", "gemini-2.5-flash"
RATES: dict[str, dict[str, str]] = {
    LITE: {"input_text": "0.30", "cached_text": "0.03", "output_text": "2.50", "search": "14000", "maps": "14000"},
    IMAGE: {"input_text": "0.50", "cached_image": "0.50", "output_text": "3", "output_image": "60"},
    PRO_IMAGE: {"input_text": "2", "input_image": "2", "output_text": "12", "output_image": "120"},
    PRO: {"input_text": "1.25", "cached_text": "0.125", "output_text": "10", "search": "35000", "maps": "25000"},
    FLASH: {"input_text": "0.30", "input_audio": "1", "output_text": "2.50"}
    | dict.fromkeys(("input_image", "input_video", "input_document"), "0.30"),
}
"""As Google publishes them; those of other tiers and long prompts stand in their cases."""

SINGLE, EVENTS, ARRAY = "generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent"
ASKED = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
"""40 bytes: 10 tokens by estimate."""


class Case(NamedTuple):
    """One answer, and the record that it must leave."""

    name: str
    body: bytes
    charged: Charged
    usage: str | None = None
    """As it must stand in the record: byte for byte."""
    estimated: bool = False
    missing: bool = False
    """It counts in `usage_missing_total`."""
    outcome: str = "ok"
    images: int = 0
    searches: int = 0
    finish: str | None = None
    tier: str | None = None
    version: str | None = None
    priced_as: str | None = None
    """None: the model that was asked for."""
    model: str = LITE
    verb: str = SINGLE
    asks: bytes = ASKED
    fields: tuple[str, ...] = ()
    """Of the answer's head."""
    status: int = 200
    cut: bool = False
    """The upstream breaks off after the body as it stands here."""
    unpriced: bool = False


def charge(model: str, **quantities: int) -> Charged:
    return {name: (quantity, RATES[model][name]) for name, quantity in quantities.items()}


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def asking(**more: Any) -> bytes:
    """The request with more members."""
    return compact(json.loads(ASKED) | more).encode()


def usage(prompt: int, candidates: int, thoughts: int = 0, **more: Any) -> dict[str, Any]:
    """A usage whose counts add up, zeros left out as Google leaves them out."""
    total = prompt + candidates + thoughts + more.get("toolUsePromptTokenCount", 0)
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "totalTokenCount": total}
    return {name: count for name, count in (counts | {"thoughtsTokenCount": thoughts}).items() if count} | more


def by(**tokens: int) -> list[dict[str, Any]]:
    """A list of details."""
    return [{"modality": modality, "tokenCount": count} for modality, count in tokens.items()]


def candidate(*parts: dict[str, Any], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0, **more}
    return said if finish is None else {**said, "finishReason": finish}


def picture(size: int = 24, **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K" * (size // 8)}, **more}


def response(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": list(candidates), **more}


def said(usage: Any, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A whole response of one candidate, that ends in STOP."""
    return response(candidate(*(parts or (WORDS,))), usageMetadata=usage, **more)


def single(name: str, answer: Any, charged: Charged, **more: Any) -> Case:
    """One response, whose usage is what the record must hold."""
    found, candidates = answer.get("usageMetadata"), answer.get("candidates")
    kept = compact(found) if isinstance(found, dict) else None
    ends = candidates[0].get("finishReason") if candidates else None
    return Case(name, compact(answer).encode(), charged, **{"usage": kept, "finish": ends, **more})


def events(name: str, answers: list[Any], charged: Charged, last: Any = None, **more: Any) -> Case:
    """A stream of events, of which `last` is the usage that counts."""
    body = "".join(f"data: {compact(answer)}\r\n\r\n" for answer in answers)
    return _streamed(name, body, answers, charged, last, verb=EVENTS, **more)


def array(name: str, answers: list[Any], charged: Charged, last: Any = None, **more: Any) -> Case:
    body = "[" + "\n,\r\n".join(map(compact, answers)) + "\n]\n"
    return _streamed(name, body, answers, charged, last, verb=ARRAY, **more)


def _streamed(name: str, body: str, answers: list[Any], charged: Charged, last: Any, **more: Any) -> Case:
    firsts = [answer["candidates"][0] for answer in answers if answer.get("candidates")]
    ends = [first["finishReason"] for first in firsts if "finishReason" in first]
    kept = None if last is None else compact(last)
    return Case(name, body.encode(), charged, **{"usage": kept, "finish": ends[-1] if ends else None, **more})


WORDS = {"text": 'Hello {"usageMetadata":{"totalTokenCount":666}}'}
PLAIN = usage(3, 5)
PLAIN_CHARGED = charge(LITE, input_text=3, output_text=5)
ESTIMATED = charge(LITE, input_text=10, output_text=1024)
GUESSED: dict[str, Any] = {"estimated": True, "missing": True}
BROKEN: dict[str, Any] = {"estimated": True, "outcome": "truncated"}
ONE = usage(2076, 1332, 137, candidatesTokensDetails=by(IMAGE=1120), serviceTier="standard")
"""As Google reported it for a picture of gemini-3.1-flash-image, on 2026-08-28."""
ONE_CHARGED = charge(IMAGE, input_text=2076, output_image=1120, output_text=349)
DRAWN: dict[str, Any] = {"model": IMAGE, "tier": "standard"}
