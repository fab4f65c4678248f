"""What the official SDKs are made to do, once for all of them: a table in the JavaScript SDK's own spelling."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

TEXT = "gemini-3.8-flash"
IMAGE = "gemini-nano-banana-2.1"
EMBEDDING = "gemini-embedding-2"


@dataclass(frozen=True)
class Scenario:
    """One use of an SDK: a method of `models`, or one of a chat, with its arguments as JSON.

    `shows` must occur in what comes back: two ways that fail alike are not the same answer.
    """

    name: str
    method: str
    shows: str
    arguments: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _ask(
    name: str, prompt: str, shows: str, *, model: str = TEXT, parts: tuple[dict[str, Any], ...] = (), **config: Any
) -> Scenario:
    content = {"role": "user", "parts": [{"text": prompt}, *parts]}
    return Scenario(name, "generateContent", shows, {"model": model, "contents": [content], "config": config})


def _stream(name: str, prompt: str, shows: str, **more: Any) -> Scenario:
    asked = _ask(name, prompt, shows, **more)
    return Scenario(f"stream: {name}", "generateContentStream", shows, asked.arguments)


def _chat(name: str, method: str, *messages: str, shows: str) -> Scenario:
    return Scenario(name, method, shows, {"model": TEXT, "messages": list(messages)})


def _picture(colour: str) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, "PNG")
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(file.getvalue()).decode()}}


_WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
}
_RECIPE = {"type": "OBJECT", "properties": {"dish": {"type": "STRING"}, "minutes": {"type": "INTEGER"}}}
_RETURNED = {"functionResponse": {"name": "get_weather", "response": {"degrees": 21}}}
_PLAIN: dict[str, Any] = {"httpOptions": {"headers": {"Accept-Encoding": "identity"}}}
"""For scenarios that count the bytes of a body: straight from the upstream it would be compressed."""
_DRAW: dict[str, Any] = {
    "model": IMAGE,
    "responseModalities": ["TEXT", "IMAGE"],
    "imageConfig": {"aspectRatio": "1:1", "imageSize": "512"},
}

GENERATING = (
    _ask("text", "Grüße, 世界 🦄 <b>", "answers turn 1: Grüße, 世界 🦄 <b>"),
    _ask("long text", "[[text-bytes=300000]] Tell me everything", "Tell me everything"),
    _ask("system instruction", "Hello", "answers turn 1: Hello", systemInstruction="You are a lorry. [[thoughts=7]]"),
    _ask("knobs", "Hello", "Hello", temperature=0.2, topP=0.5, topK=3, seed=4, stopSequences=["x"], candidateCount=2),
    _ask("thoughts", "Hello", "pretends to think", thinkingConfig={"includeThoughts": True, "thinkingLevel": "HIGH"}),
    _ask("JSON schema", "A dish", "minutes", responseMimeType="application/json", responseSchema=_RECIPE),
    _ask("function call", "Use get_weather", "city", tools=[{"functionDeclarations": [_WEATHER]}]),
    _ask("function response", "So?", "get_weather returned", parts=(_RETURNED,)),
    _ask("grounding", "[[search=2]] News?", "query 2 about News?", tools=[{"googleSearch": {}}]),
    _ask("image", "A cat", "image/jpeg", **_DRAW),
    _ask("three images", "[[images=3]] A cat", "image/jpeg", **_DRAW),
    _ask("reference images", "Both", "image/jpeg", parts=(_picture("red"), _picture("blue")), **_DRAW),
    _ask("cut short", "Count to a thousand", "MAX_TOKENS", maxOutputTokens=3),
    _ask("finish reason", "[[finish=RECITATION]] Sing", "RECITATION"),
    _ask("image refused", "[[refuse=IMAGE_SAFETY]] A cat", "IMAGE_SAFETY", **_DRAW),
    _ask("prompt blocked", "[[block=PROHIBITED_CONTENT]] Hello", "PROHIBITED_CONTENT"),
    _ask("usage missing", "[[usage=none]] Hello", "answers turn 1"),
    _ask("served at another tier", "[[tier=priority]] Hello", "priority"),
    _ask("compressed though not asked for", "[[gzip]] Hello", "answers turn 1: Hello"),
)
STREAMING = (
    _stream("text", "[[chunks=12]] Hello, world", "STOP"),
    _stream("function call", "Use get_weather", "city", tools=[{"functionDeclarations": [_WEATHER]}]),
    _stream("image", "[[images=2]] A cat", "image/jpeg", **_DRAW),
    _stream("prompt blocked", "[[block=SAFETY]] Hello", "SAFETY"),
    _stream("refused", "[[refuse=SAFETY]] Hello", "SAFETY"),
    _stream("no usage in the last chunk", "[[usage=null-last]] Hello", "STOP"),
    _stream("compressed though not asked for", "[[gzip]] Hello", "STOP"),
    _stream("error before it", "[[status=503]] Hello", "The model is overloaded"),
    _stream("error within it", "[[chunks=8]] [[error-mid-stream=429]] Hello", "You exceeded your current quota"),
    _stream("broken off", "[[chunks=8]] [[text-bytes=4000]] [[break-after=3000]] Hello", "raised", **_PLAIN),
)
OTHERS = (
    _chat("chat", "sendMessage", "Hello", "And now?", shows="answers turn 2: And now?"),
    _chat("chat, streamed", "sendMessageStream", "Hello", "And now?", shows="STOP"),
    Scenario("count tokens", "countTokens", "9", {"model": TEXT, "contents": "x" * 36}),
    Scenario("embed one", "embedContent", "values", {"model": EMBEDDING, "contents": "a lorry"}),
    Scenario(
        "embed many",
        "embedContent",
        "values",
        {"model": EMBEDDING, "contents": ["a lorry", "a bridge"], "config": {"outputDimensionality": 64}},
    ),
    Scenario("list models", "list", "models/gemini-embedding-001", {"config": {"pageSize": 10}}),
    Scenario("get a model", "get", f"models/{IMAGE}", {"model": IMAGE}),
)
FAILING = (
    _ask("error 400", "[[status=400]] Hello", "Request contains an invalid argument."),
    _ask(
        "error 400 of a parameter", "A cat", "Aspect ratio 2:1 is not", model=IMAGE, imageConfig={"aspectRatio": "2:1"}
    ),
    _ask("error 404", "Hello", "models/gemini-0 is not found", model="gemini-0"),
    _ask("error 429", "[[status=429]] Hello", "Please retry in"),
    _ask("error 429 without details", "[[status=429-spend]] Hello", "spend-based rate limit"),
    _ask("error 500", "[[status=500]] Hello", "An internal error has occurred"),
    _ask("error 503", "[[status=503]] Hello", "The model is overloaded"),
    _ask("error 504", "[[status=504]] Hello", "Deadline expired"),
    _ask("broken off", "[[text-bytes=4000]] [[break-after=3000]] Hello", "raised", **_PLAIN),
    Scenario("count tokens, error", "countTokens", "is not found", {"model": "gemini-0", "contents": "x"}),
    Scenario("embed, error", "embedContent", "is not found", {"model": TEXT, "contents": "x"}),
    Scenario("get a model, error", "get", "models/gemini-0 is not found", {"model": "gemini-0"}),
)
SCENARIOS = (*GENERATING, *STREAMING, *OTHERS, *FAILING)
