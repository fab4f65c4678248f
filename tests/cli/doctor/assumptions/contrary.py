"""An upstream that does nothing of what is assumed, and answers that are made by hand."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from proxy.billing.prices import PriceBook
from proxy.cli.doctor.assumptions.answers import Answer, read
from proxy.cli.doctor.assumptions.calls import calls
from proxy.cli.doctor.assumptions.verdicts import Answers
from tests.scripted import Scripted, scripted

BOOK = PriceBook.of(None)
AT = 1_795_262_400_000_000  # 2026-11-21, noon in UTC
CALLS = {call.name: call for call in calls()}
MODELS = sorted({call.model for call in CALLS.values()})

Json = dict[str, Any]


def usage(prompt: int = 10, candidates: int = 5, thoughts: int = 0, **more: Any) -> Json:
    """A usageMetadata that adds up, changed by `more`; None leaves a field out."""
    counts: Json = {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts}
    counts["totalTokenCount"] = prompt + candidates + thoughts
    return {name: value for name, value in (counts | more).items() if value is not None}


def labels(**tokens: int) -> list[Json]:
    return [{"modality": name, "tokenCount": count} for name, count in tokens.items()]


def said(spent: Json | None, text: str = "yes", finish: str = "STOP", **more: Any) -> Json:
    """A GenerateContentResponse."""
    candidate = {"content": {"parts": [{"text": text}]}, "finishReason": finish, "index": 0}
    document = {"candidates": [candidate], "modelVersion": "gemini-3.8-flash"} | more
    return document if spent is None else document | {"usageMetadata": spent}


def drawn(spent: Json, pictures: int = 1) -> Json:
    parts = [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}] * pictures
    candidate = {"content": {"parts": parts}, "finishReason": "STOP"}
    return {"candidates": [candidate], "modelVersion": "gemini-nano-banana-2.1", "usageMetadata": spent}


def searched(*queries: str) -> Json:
    grounding = {"groundingMetadata": {"webSearchQueries": list(queries)}}
    return {"candidates": [{"content": {"parts": []}, "index": 0} | grounding], "usageMetadata": usage()}


def answered(headers: Mapping[str, str] | None = None, **documents: Json | list[Json]) -> Answers:
    """Answers to the calls named (`_` for `-`): a document, or the events of a stream."""
    made: dict[str, Answer] = {}
    for word, document in documents.items():
        call = CALLS[word.replace("_", "-")]
        body = sse(document) if isinstance(document, list) else json.dumps(document).encode()
        made[call.name] = read(call, body, headers or {}, BOOK, AT)
        assert not made[call.name].problem
    return Answers(made, BOOK, AT)


def sse(documents: list[Json]) -> bytes:
    return b"".join(b"data: " + json.dumps(document).encode() + b"\r\n\r\n" for document in documents)


def labelled(image: int) -> Json:
    """A picture's usage with a label that isn't assumed."""
    return usage(10, image + 50, 5, candidatesTokensDetails=labels(IMAGE=image, AUDIO=20))


CONTRARY: dict[str, Json | list[Json]] = {
    "count-text": {"totalTokens": 900, "promptTokensDetails": labels(TEXT=900)},
    "count-picture": {"totalTokens": 9000, "promptTokensDetails": labels(IMAGE=9000)},
    "count-picture-drawn-from": {"totalTokens": 9000, "promptTokensDetails": labels(IMAGE=9000)},
    "embed": {"embedding": {"values": [1.0]}},
    "text": said(usage(10, 50, 20, totalTokenCount=60, promptTokensDetails=labels(TEXT=4, IMAGE=40))),
    "capped": said(usage(10, 64, 500), finish="MAX_TOKENS"),
    "stream": [said(usage(10, count), "word " * 40) for count in (50, 50, 50, 50)],
    "flex": said(usage(), modelVersion="gemini-9-unheard-of"),
    "routed": said(usage(totalTokenCount=4, serviceTier="ultra"), modelVersion="gemini-2.5-flash"),
    "search": [searched("one"), searched("two")],
    "image": drawn(labelled(500), pictures=2),
    "image-wide": drawn(labelled(700)),
    "image-2k": drawn(labelled(5000)),
}
"""To each call, an answer against what is assumed of it."""


def http(document: Json | list[Json], status: int = 200, *headers: str) -> bytes:
    body = sse(document) if isinstance(document, list) else json.dumps(document).encode()
    return "\r\n".join([f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers, "", ""]).encode() + body


LISTED = {"models": [{"name": f"models/{model}"} for model in MODELS]}


@contextmanager
def upstream(answer: Callable[[str], bytes], listed: Json = LISTED) -> Iterator[Scripted]:
    """Lists the models, and answers each call by its name."""
    with scripted() as script:

        def converse(connection: socket.socket) -> None:
            request = script.received[-1]
            found = re.search(rb"models/([^:/?]+):(\w+)", request.target)
            if found is None:
                connection.sendall(http(listed))
                return
            body = json.loads(request.body)
            connection.sendall(answer(next(name for name, call in CALLS.items() if call.body == body)))

        script.answer = converse
        yield script
