"""Google's OpenAI compatibility layer: chat, embeddings, pictures and models under `/{version}/openai/`.

Each answer is the native one of the same model to the same prompt, in OpenAI's shape. What the layer itself adds (which
models draw there, what it passes over, what it refuses) is as users of it report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from proxy.emulator import answers, errors, openai_replies, openai_requests, replies, requests
from proxy.emulator.models import MODELS, Model
from proxy.emulator.operations import Exchange, bill, direct, fail_if_told, note, vector
from proxy.emulator.pictures import PictureCache
from proxy.emulator.usage import prompt_of, spoilt
from proxy.emulator.wire import Headers

PATHS: dict[tuple[str, str], str] = {
    ("POST", "chat/completions"): "openai.chat.completions",
    ("POST", "embeddings"): "openai.embeddings",
    ("POST", "images/generations"): "openai.images.generations",
    ("GET", "models"): "openai.models.list",
}
"""Operations by method and path; `openai.models.get` is at `models/{id}`."""

DRAWS = frozenset(("gemini-2.5-flash-image", "gemini-3-pro-image", "gemini-3-pro-image-preview"))
"""The models that images/generations serves; the others answer 404 there, whatever the catalogue says."""

_VERSION = "v1main"
_MAX_IMAGES = 10
_IDENTITIES = (b"x-goog-api-key", b"openai-organization", b"openai-project")


def operation(method: str, path: str) -> tuple[str, str] | None:
    """The operation at a path below `/{version}/openai/`, and its model where the path names it; None for no route."""
    path = path.removesuffix("/")
    if (found := PATHS.get((method, path))) is not None:
        return found, ""
    folder, _, model = path.partition("/")
    model = model.removeprefix("models/")
    return ("openai.models.get", model) if method == "GET" and folder == "models" and model else None


def credential(headers: Headers, query: list[tuple[str, str]]) -> str:
    """The API key, of `Authorization: Bearer` alone. Raises ApiError (400) for none, and for another beside it.

    OpenAI's organization and project headers count as identities, as users of the layer report.
    """
    tokens = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
    others = sum(name in _IDENTITIES for name, _ in headers) + sum(name in ("key", "access_token") for name, _ in query)
    if len(tokens) + (others if tokens else 0) > 1:
        raise errors.keys_conflict()
    if not tokens or not tokens[0].startswith("Bearer ") or len(tokens[0]) == len("Bearer "):
        raise errors.invalid("Missing or invalid Authorization header.")
    return tokens[0].removeprefix("Bearer ")


def chat(exchange: Exchange, cache: PictureCache) -> None:
    """POST chat/completions, whole or as a stream."""
    asked_for = requests.parse(exchange.body, openai_requests.CHAT)
    exchange.streams = asked_for.get("stream") is True
    request = openai_requests.generate(asked_for)
    spoken = [request["systemInstruction"], *request["contents"][-1:]]
    direct(exchange, [text for content in spoken for text in requests.texts(content)])
    model = _model(exchange, asked_for, "generateContent")
    asked = answers.understood(model, request, exchange.how)
    fail_if_told(exchange, model)
    answer = answers.answer(asked, cache)
    native = replies.Stamp(exchange.how.model_version or model.version, exchange.id)
    stamp = openai_replies.Stamp(exchange.id, exchange.created, native.model_version)
    exchange.tier = answer.usage.tier
    if exchange.streams:
        usage = (asked_for.get("streamOptions") or {}).get("includeUsage") is True
        _stream(exchange, replies.chunks(answer, native, exchange.how), stamp, usage=usage)
    else:
        value = openai_replies.completion(replies.single(answer, native, exchange.how), stamp, exchange.how)
        exchange.pieces = [openai_replies.in_a_line(value)]
        bill(exchange, answer.usage, value.get("usage"))
    note(exchange, answer, asked, native)


def embed(exchange: Exchange, _: PictureCache) -> None:
    """POST embeddings."""
    request = requests.parse(exchange.body, openai_requests.EMBEDDINGS)
    texts = openai_requests.inputs(request.get("input"))
    direct(exchange, texts)
    model = _model(exchange, request, "embedContent")
    fail_if_told(exchange, model)
    vectors = [vector([text], request.get("dimensions"), model) for text in texts]
    value = openai_replies.embeddings(vectors, model, packed=request.get("encodingFormat") == "base64")
    usage = prompt_of([{"parts": [{"text": text}]} for text in texts], model.reference_tokens, exchange.how.cached)
    shown = spoilt(usage, exchange.how.usage)
    if isinstance(shown, dict):
        prompt, total = shown.get("promptTokenCount", 0), shown.get("totalTokenCount", 0)
        value["usage"] = {"prompt_tokens": prompt, "total_tokens": total}
    elif shown is None:
        value["usage"] = None
    exchange.pieces = [openai_replies.in_a_line(value)]
    bill(exchange, usage, value.get("usage"))


def draw(exchange: Exchange, cache: PictureCache) -> None:
    """POST images/generations: `n` square pictures of the usual size, whatever size is asked for; no usage."""
    request = requests.parse(exchange.body, openai_requests.IMAGES)
    prompt, count = request.get("prompt") or "", request.get("n", 1)
    direct(exchange, [prompt])
    model = _model(exchange, request, "predict")
    if not prompt:
        raise errors.invalid("Invalid value at 'prompt': it is required.")
    if not 1 <= count <= _MAX_IMAGES:
        raise errors.invalid(f"Invalid value at 'n': {count}. It must be between 1 and {_MAX_IMAGES}.")
    fail_if_told(exchange, model)
    how = exchange.how
    how = replace(how, images=count if how.images is None else how.images)
    asked = answers.understood(model, {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}, how)
    answer = answers.answer(asked, cache)
    parts = [part for candidate in answer.candidates for part in candidate]
    exchange.tier = answer.usage.tier
    exchange.pieces = [openai_replies.in_a_line(openai_replies.images(parts, exchange.created))]
    bill(exchange, answer.usage, None)
    note(exchange, answer, asked, replies.Stamp(how.model_version or model.version, exchange.id))


def list_models(exchange: Exchange, _: PictureCache) -> None:
    """GET models."""
    value = {"data": [openai_replies.model_entry(model) for model in MODELS.values()], "object": "list"}
    exchange.pieces = [openai_replies.in_a_line(value)]


def get_model(exchange: Exchange, _: PictureCache) -> None:
    """GET models/{id}, with the prefix `models/` or without."""
    model = _model(exchange, {"model": exchange.model}, "")
    exchange.pieces = [openai_replies.in_a_line(openai_replies.model_entry(model))]


OPERATIONS: dict[str, Callable[[Exchange, PictureCache], None]] = {
    "openai.chat.completions": chat,
    "openai.embeddings": embed,
    "openai.images.generations": draw,
    "openai.models.list": list_models,
    "openai.models.get": get_model,
}
METERED = frozenset(("openai.chat.completions", "openai.embeddings", "openai.images.generations"))


def _model(exchange: Exchange, request: dict[str, Any], method: str) -> Model:
    """The model asked for. Raises ApiError: 400 for none, 404 for one that isn't served by the method."""
    name = request.get("model")
    if not name:
        raise errors.invalid("model is not specified")
    exchange.model = name.removeprefix("models/")
    model = MODELS.get(exchange.model)
    served = model is not None and (
        not method or method in model.methods or (method == "predict" and model.id in DRAWS)
    )
    if model is None or not served:
        raise errors.model_not_found(exchange.model, _VERSION, method or "generateContent")
    return model


def _stream(exchange: Exchange, made: list[replies.Chunk], stamp: openai_replies.Stamp, *, usage: bool) -> None:
    how = exchange.how
    broken = how.error_mid_stream
    if broken is not None:
        made = made[: max(1, len(made) // 2)]
    # A stream that breaks doesn't come to the chunk that holds the usage alone.
    usage = usage and (broken is None or how.usage_chunk == "every")
    values = openai_replies.chunks([chunk.value for chunk in made], stamp, how, usage=usage)
    bill(exchange, made[-1].usage, next((value["usage"] for value in reversed(values) if value.get("usage")), None))
    exchange.content_type = b"text/event-stream"
    exchange.pieces = openai_replies.events(values)
    if broken is None:
        exchange.pieces.append(openai_replies.DONE)
    else:
        error = errors.named(broken, exchange.model, _VERSION, "generateContent")
        exchange.pieces += openai_replies.events([msgspec.json.decode(error.body())])
