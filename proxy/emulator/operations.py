"""The operations: from a request that was let in to the reply, whole, before its first byte is sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.emulator import answers, errors, replies, requests, wire
from proxy.emulator.account import Entry
from proxy.emulator.answers import Answer
from proxy.emulator.behaviours import Behaviour, parse
from proxy.emulator.models import MODELS, Model
from proxy.emulator.pictures import PictureCache
from proxy.emulator.usage import Usage, prompt_of, spoilt

QUERY = {"key", "alt", "prettyPrint", "access_token"}
NOTHING_BILLED: Entry = {
    "model_version": None,
    "service_tier": None,
    "usage": None,
    "reported": None,
    "images": 0,
    "searches": 0,
    "finish_reason": None,
}
_PAGE = 50
_PAGE_MAX = 1000


@dataclass
class Exchange:
    """One request and, as it comes to be, its reply."""

    id: str
    version: str
    model: str
    verb: str
    query: list[tuple[str, str]]
    credential: str
    body: bytes
    created: int = 0
    """Unix seconds."""
    streams: bool = False
    how: Behaviour = field(default_factory=Behaviour)
    prompt: str = ""
    status: int = 200
    content_type: bytes = wire.JSON
    pieces: list[bytes] = field(default_factory=list)
    tier: str | None = None
    billed: Entry = field(default_factory=lambda: dict(NOTHING_BILLED))
    """What goes into the account beside the request line."""

    @property
    def fails_in_array(self) -> bool:
        """Errors come in an array where a stream would have been one, and from all that is OpenAI's but pictures."""
        if self.verb.startswith("openai."):
            return self.verb != "openai.images.generations"
        return self.streams and self.asked("alt") != "sse"

    def asked(self, name: str) -> str | None:
        return next((value for asked, value in self.query if asked == name), None)


def list_models(exchange: Exchange) -> None:
    asked = exchange.asked("pageSize") or "0"
    if not asked.isdecimal():
        raise errors.bad_fields([("page_size", f"Invalid value at 'page_size' (TYPE_INT32), \"{asked}\"")])
    size = min(int(asked) or _PAGE, _PAGE_MAX)
    start = _page_start(exchange.asked("pageToken"))
    page = list(MODELS.values())[start : start + size]
    value: dict[str, Any] = {"models": [model.described() for model in page]}
    if start + size < len(MODELS):
        value["nextPageToken"] = base64.urlsafe_b64encode(b"%d" % (start + size)).decode()
    exchange.pieces = wire.single(value)


def get_model(exchange: Exchange) -> None:
    exchange.pieces = wire.single(_model(exchange, "generateContent").described())


def generate(exchange: Exchange, cache: PictureCache) -> None:
    """generateContent and streamGenerateContent."""
    model = _model(exchange, exchange.verb)
    request = _read(exchange, requests.GENERATE)
    asked = answers.understood(model, request, exchange.how)
    fail_if_told(exchange, model)
    answer = answers.answer(asked, cache)
    stamp = replies.Stamp(exchange.how.model_version or model.version, exchange.id)
    exchange.tier = answer.usage.tier
    if exchange.streams:
        _stream(exchange, answer, stamp)
    else:
        value = replies.single(answer, stamp, exchange.how)
        exchange.pieces = wire.single(value)
        bill(exchange, answer.usage, value.get("usageMetadata"))
    note(exchange, answer, asked, stamp)


def note(exchange: Exchange, answer: Answer, asked: answers.Asked, stamp: replies.Stamp) -> None:
    """Notes for the account what was answered."""
    exchange.billed |= {
        "model_version": stamp.model_version,
        "images": answer.images,
        "searches": asked.searches * len(answer.candidates) if answer.grounding else 0,
        "finish_reason": None if answer.blocked else answer.finish,
    }


def count_tokens(exchange: Exchange) -> None:
    model = _model(exchange, "countTokens")
    request = _read(exchange, requests.COUNT)
    fail_if_told(exchange, model)
    usage = answers.prompt_usage(model, request.get("generateContentRequest") or request, exchange.how)
    details = usage.metadata().get("promptTokensDetails", [])
    value = {"totalTokens": usage.prompt_tokens, "promptTokensDetails": details}
    if usage.cached:
        value["cachedContentTokenCount"] = usage.cached
    exchange.pieces = wire.single(value)


def embed(exchange: Exchange) -> None:
    """embedContent and batchEmbedContents."""
    model = _model(exchange, exchange.verb)
    batch = exchange.verb == "batchEmbedContents"
    request = _read(exchange, requests.BATCH if batch else requests.EMBED)
    wanted = (request.get("requests") or []) if batch else [request]
    if not wanted:
        raise errors.invalid("* BatchEmbedContentsRequest.requests: requests is not specified\n")
    for one in wanted:
        if one.get("model", f"models/{model.id}").removeprefix("models/") != model.id:
            raise errors.invalid("Model name in the batch request must match the model in the path.")
    fail_if_told(exchange, model)
    found = [{"values": _embedding(one, model)} for one in wanted]
    usage = prompt_of([one.get("content") for one in wanted], model.reference_tokens, exchange.how.cached)
    value: dict[str, Any] = {"embeddings": found} if batch else {"embedding": found[0]}
    shown = spoilt(usage, exchange.how.usage)
    if isinstance(shown, dict) or shown is None:
        value["usageMetadata"] = shown
    exchange.pieces = wire.single(value)
    bill(exchange, usage, value.get("usageMetadata"))


OPERATIONS: dict[str, Callable[[Exchange, PictureCache], None]] = {
    "generateContent": generate,
    "streamGenerateContent": generate,
    "countTokens": lambda exchange, _: count_tokens(exchange),
    "embedContent": lambda exchange, _: embed(exchange),
    "batchEmbedContents": lambda exchange, _: embed(exchange),
}
METERED = frozenset(OPERATIONS) - {"countTokens"}


def fail(exchange: Exchange, error: errors.ApiError) -> None:
    """Makes the error the reply."""
    exchange.status = error.code
    exchange.tier = None
    exchange.content_type = wire.JSON
    exchange.pieces = [b"[" + error.body() + b"]"] if exchange.fails_in_array else [error.body()]
    exchange.billed = dict(NOTHING_BILLED)


def _model(exchange: Exchange, method: str) -> Model:
    model = MODELS.get(exchange.model)
    if model is None or (exchange.verb and method not in model.methods):
        raise errors.model_not_found(exchange.model, exchange.version, method)
    return model


def _read(exchange: Exchange, tree: requests.Tree) -> dict[str, Any]:
    """The request, with the behaviours that its last content and its system instruction ask for taken out of it."""
    request = requests.parse(exchange.body, tree)
    inner = request.get("generateContentRequest") or request
    spoken = [inner.get("systemInstruction"), *(inner.get("contents") or [])[-1:], inner.get("content")]
    spoken += [one.get("content") for one in inner.get("requests") or []]
    direct(exchange, [text for content in spoken for text in requests.texts(content)])
    return request


def direct(exchange: Exchange, said: Sequence[str]) -> None:
    """Lets the directives in what was said steer the exchange. Raises ApiError (400) for those that don't exist."""
    exchange.prompt = "\n".join(said)
    exchange.how = parse(said)


def fail_if_told(exchange: Exchange, model: Model) -> None:
    """Raises the ApiError that a directive asks for."""
    how = exchange.how
    if how.echo_key:
        raise errors.key_echoed(exchange.credential)
    status = how.status or (None if exchange.streams else how.error_mid_stream)
    if status is not None:
        raise errors.named(status, model.id, exchange.version, exchange.verb)


def _stream(exchange: Exchange, answer: Answer, stamp: replies.Stamp) -> None:
    made = replies.chunks(answer, stamp, exchange.how)
    if (name := exchange.how.error_mid_stream) is not None:
        made = made[: max(1, len(made) // 2)]
    values = [chunk.value for chunk in made]
    reported = next((value["usageMetadata"] for value in reversed(values) if value.get("usageMetadata")), None)
    bill(exchange, made[-1].usage, reported)
    if name is not None:
        error = errors.named(name, exchange.model, exchange.version, exchange.verb)
        values.append(msgspec.json.decode(error.body()))
    if exchange.asked("alt") == "sse":
        exchange.content_type = b"text/event-stream"
        exchange.pieces = wire.sse(values)
    else:
        exchange.pieces = wire.array(values)


def bill(exchange: Exchange, usage: Usage, reported: Any) -> None:
    """`reported` is the last usage that the client is shown, None where there is none."""
    exchange.billed |= {"usage": usage.numbers(), "reported": reported, "service_tier": usage.tier}


def _embedding(request: dict[str, Any], model: Model) -> list[float]:
    inner = request.get("embedContentConfig") or request
    return vector(requests.texts(request.get("content")), inner.get("outputDimensionality"), model)


def vector(texts: Sequence[str], dimensions: int | None, model: Model) -> list[float]:
    """A vector of length 1 that hangs on the texts alone. Raises ApiError (400) for too many dimensions, or too few."""
    dimensions = dimensions or model.dimensions
    if not 1 <= dimensions <= model.dimensions:
        raise errors.invalid(f"output_dimensionality must be between 1 and {model.dimensions}.")
    digest = hashlib.sha256("\n".join(texts).encode()).digest()
    chance = random.Random(digest)  # noqa: S311  the same each time is what is wanted
    values = [chance.uniform(-1, 1) for _ in range(dimensions)]
    length = math.sqrt(sum(value * value for value in values))
    return [round(value / length, 8) for value in values]


def _page_start(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error):
        raise errors.invalid("Page token is invalid.") from None
