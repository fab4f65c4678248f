"""The kinds of calls: what each asks for, and what it has the emulator do."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import tenants
from tests.chaos.calls import BREAKS, LEAVES, WAYS, Call

SIZE = 1400
"""Bytes of the smallest body. A key's next call has a byte more, so that a record shows which call it is of."""
PICTURES = (0, 0, 0, 0, 24_000, 60_000, 200_000)
"""Bytes of base64 that a call may send in: more apart than a key has calls, so that no two bodies are as long."""
TEXT_MODELS = (
    "gemini-3.8-flash",
    "gemini-3.8-flash",
    "gemini-4-argon",
    "gemini-2.5-pro",
    "gemini-3.1-flash-lite",
    "gemini-3.5-flash",
)
IMAGE_MODELS = ("gemini-nano-banana-2.1", "gemini-3.1-flash-image", "gemini-3-pro-image")
EMBEDDING_MODELS = ("gemini-embedding-2", "gemini-embedding-001")
SIZES = {
    "gemini-nano-banana-2.1": ("512", "1K", "2K", "4K"),
    "gemini-3.1-flash-image": ("512", "1K", "2K", "4K"),
    "gemini-3-pro-image": ("1K", "2K", "4K"),
}
MOST_OUT = 4000
"""`maxOutputTokens` of who has a budget: a picture of 4K has 3,780."""
STATUSES = ("400", "404", "429", "429-exhausted", "500", "503", "504")
SPOILT = ("none", "null", "zero", "no-details", "mirrored", "first-only", "last-only", "null-last", "zero-first")


def drawn(number: int, key: str, nth: int, chance: random.Random) -> Call:
    """The `nth` call of a key, as chance has it."""
    kind = chance.choices(tuple(KINDS), tuple(weight for _, weight in KINDS.values()))[0]
    if chance.random() < tenants.pictures(key):
        kind = chance.choice(("picture", "picture stream"))
    return KINDS[kind][0](_Draft(number, key, SIZE + nth, chance))


@dataclass
class _Draft:
    """What is known of a call before its kind."""

    number: int
    key: str
    length: int
    chance: random.Random
    words: list[str] = field(default_factory=list)
    """Directives to the emulator."""
    rest: dict[str, Any] = field(default_factory=dict)

    def some(self, share: float) -> bool:
        return self.chance.random() < share

    def done(self, verb: str, model: str, query: str, body: dict[str, Any], inline: int = 0) -> Call:
        """The body with so much filling that it has its length."""
        said = f"call {self.number} {' '.join(f'[[{word}]]' for word in self.words)} "
        content = json.dumps(body).replace("SAID", said)
        length = self.length + inline
        assert len(content) <= length, (len(content), length)
        content = content.replace("FILLING", "x" * (length - len(content) + len("FILLING")))
        path = f"/v1beta/models/{model}:{verb}{query}"
        return Call(
            self.number,
            self.key,
            verb,
            model,
            "POST",
            path,
            length,
            content.encode(),
            inline,
            **self._ends(),
            **self.rest,
        )

    def _ends(self) -> dict[str, str]:
        """How it is to end early, if it is."""
        ends = {}
        if self.some(0.05):
            ends["breaks"] = self.chance.choice(BREAKS)
        if self.some(0.12):
            ends |= {"leaves": self.chance.choice(LEAVES), "way": self.chance.choice(WAYS)}
        return ends


def _generate(draft: _Draft, *, draws: bool, streams: bool) -> Call:
    chance = draft.chance
    model = chance.choice(IMAGE_MODELS if draws else TEXT_MODELS)
    body: dict[str, Any] = {"systemInstruction": {"parts": [{"text": "SAID FILLING"}]}}
    prompt = f"Draw a lighthouse, number {chance.randrange(3)}." if draws else "Tell me of lighthouses."
    parts: list[dict[str, Any]] = [{"text": prompt}]
    if inline := chance.choice(PICTURES):
        data = base64.b64encode(bytes(inline * 3 // 4)).decode()
        parts.append({"inlineData": {"mimeType": "image/png", "data": data}})
    body["contents"] = [{"role": "user", "parts": parts}]
    if draft.some(0.15):
        body["serviceTier"] = chance.choice(("flex", "priority"))
    config = _pictures(draft, model) if draws else _texts(draft, body, parts)
    if tenants.is_bounded(draft.key):
        config["maxOutputTokens"] = draft.rest["most_out"] = MOST_OUT
    if config:
        body["generationConfig"] = config
    _weights(draft, draws)
    _endings(draft, streams)
    verb = "streamGenerateContent" if streams else "generateContent"
    return draft.done(verb, model, "?alt=sse" if streams and draft.some(0.7) else "", body, inline)


def _pictures(draft: _Draft, model: str) -> dict[str, Any]:
    chance = draft.chance
    config: dict[str, Any] = {}
    if draft.some(0.7):
        draft.rest["size"] = chance.choice(SIZES[model])
        config["imageConfig"] = {"imageSize": draft.rest["size"], "aspectRatio": chance.choice(("1:1", "16:9", "3:4"))}
    if draft.some(0.3) and not tenants.is_bounded(draft.key):
        draft.words.append(f"images={chance.choice((0, 2, 3, 5))}")
    # Most are no files at all: to draw and to carry them is not what this is about.
    draft.words += chance.choice((["url"], ["url"], ["url"], [f"image-bytes={chance.choice((200_000, 900_000))}"]))
    return config


def _texts(draft: _Draft, body: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    chance = draft.chance
    config: dict[str, Any] = {}
    if draft.some(0.15):
        config["candidateCount"] = draft.rest["candidates"] = chance.randrange(2, 5)
    if draft.some(0.3):
        config["maxOutputTokens"] = draft.rest["most_out"] = chance.choice((5, 100, 8000))
    if draft.some(0.2):
        thinking = ({"thinkingBudget": 0}, {"thinkingLevel": "high", "includeThoughts": True})
        config["thinkingConfig"] = chance.choice(thinking)
    if draft.some(0.15):
        body["tools"] = [{"functionDeclarations": [{"name": "look_up", "parameters": {"type": "object"}}]}]
        parts.append({"text": "You may look_up it."})
    elif draft.some(0.15) and not tenants.is_bounded(draft.key):
        body["tools"] = [{"googleSearch": {}}]
        draft.words.append(f"search={chance.randrange(1, 4)}")
    if not tenants.is_bounded(draft.key):
        draft.words += chance.choice(([], [], [f"text-bytes={chance.choice((1, 3000, 60_000))}"]))
    return config


def _weights(draft: _Draft, draws: bool) -> None:
    """What makes a call dearer or cheaper than it looks."""
    chance = draft.chance
    if tenants.is_bounded(draft.key):
        return
    if draft.some(0.1):
        draft.words.append(f"thoughts={chance.randrange(2000)}")
    if draft.some(0.08):
        draft.words.append(f"tool-use={chance.randrange(1, 500)}")
    if draft.some(0.1) and not tenants.estimates_hold(draft.key):
        draft.words.append(f"cached={chance.choice((100, 3000, 250_000))}")
    if draft.some(0.04):
        draft.words.append(f"tier={chance.choice(('flex', 'priority', 'standard'))}")
    if draft.some(0.04) and not draws:
        draft.words.append(chance.choice(("refuse=SAFETY", "block=SAFETY", "finish=MAX_TOKENS")))
        draft.rest["spoilt"] = draft.words[-1].startswith("refuse")  # thoughts are repeated as candidates


def _endings(draft: _Draft, streams: bool) -> None:
    """How the upstream answers: in one of its framings, with usage that is amiss, with an error, or in part."""
    chance = draft.chance
    draft.words += chance.choice(([], [], [], ["gzip"], ["length"]))
    if streams:
        draft.words += chance.choice(([], [f"chunks={chance.randrange(1, 9)}"], ["chunks=6", "chunk-delay=0.002"]))
    if (fate := chance.random()) < 0.08:
        draft.words.append(f"usage={chance.choice(SPOILT)}")
        draft.rest["spoilt"] = True
    elif fate < 0.15:
        draft.words.append(f"status={chance.choice(STATUSES)}")
    elif fate < 0.18:
        draft.words.append(f"error-mid-stream={chance.choice(STATUSES)}")
    elif fate < 0.22 and "gzip" not in draft.words:
        draft.words.append(f"break-after={chance.randrange(1200 if streams else 250)}")
        draft.words.append("no-length")


def _embed(draft: _Draft, *, batch: bool) -> Call:
    content = {"content": {"parts": [{"text": "SAID FILLING"}]}, "outputDimensionality": 8}
    if draft.some(0.08):
        draft.words.append(f"status={draft.chance.choice(STATUSES)}")
    elif draft.some(0.08):
        draft.words.append(f"usage={draft.chance.choice(('none', 'null', 'zero'))}")
        draft.rest["spoilt"] = True
    model = draft.chance.choice(EMBEDDING_MODELS)
    if not batch:
        return draft.done("embedContent", model, "", content)
    short = {"content": {"parts": [{"text": "Another."}]}, "outputDimensionality": 8}
    return draft.done("batchEmbedContents", model, "", {"requests": [content, *[short] * draft.chance.randrange(3)]})


def _count(draft: _Draft) -> Call:
    return draft.done("countTokens", "gemini-3.8-flash", "", {"contents": [{"parts": [{"text": "SAID FILLING"}]}]})


def _look(draft: _Draft) -> Call:
    path = draft.chance.choice(("/v1beta/models", "/v1beta/models?pageSize=3", "/v1beta/models/gemini-3.8-flash"))
    return Call(draft.number, draft.key, "models", "", "GET", path, 0, b"")


def _refused(draft: _Draft) -> Call:
    """What goes up never: a resource that isn't the caller's, a path that isn't served, a body that isn't JSON."""
    kind = draft.chance.choice(("cachedContent", "path", "parameter"))
    path = "/v1beta/models/gemini-3.8-flash:generateContent"
    body = {"contents": [{"parts": [{"text": "x"}]}]} | (
        {"cachedContent": "cachedContents/another-s"} if kind == "cachedContent" else {}
    )
    path = {"path": "/v1beta/nothing", "parameter": f"{path}?fields=candidates"}.get(kind, path)
    content = json.dumps(body).encode()
    return Call(draft.number, draft.key, f"refused: {kind}", "", "POST", path, len(content), content)


KINDS = {
    "text": (lambda draft: _generate(draft, draws=False, streams=False), 34),
    "text stream": (lambda draft: _generate(draft, draws=False, streams=True), 28),
    "picture": (lambda draft: _generate(draft, draws=True, streams=False), 12),
    "picture stream": (lambda draft: _generate(draft, draws=True, streams=True), 6),
    "embedding": (lambda draft: _embed(draft, batch=False), 5),
    "embeddings": (lambda draft: _embed(draft, batch=True), 4),
    "tokens counted": (_count, 5),
    "models": (_look, 3),
    "refused": (_refused, 3),
}
"""Each kind of call, and how many of 100 are of it."""
