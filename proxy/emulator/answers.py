"""What is answered: text, JSON, a function call or pictures, the same for the same request; and what it costs."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from proxy.emulator import errors, requests, schemas
from proxy.emulator.behaviours import TIERS, Behaviour, without_directives
from proxy.emulator.models import Model
from proxy.emulator.pictures import Picture, PictureCache
from proxy.emulator.usage import Usage, prompt_of, text_tokens

Part = dict[str, Any]
_FILLER = "The quick brown fox jumps over the lazy dog. "
_UNBOUNDED = 10**9
"""`maxOutputTokens` where none is given: more than any answer has."""


@dataclass(frozen=True)
class Answer:
    """One answer before it has a shape: the parts of each candidate, why it ended, and the usage."""

    candidates: tuple[tuple[Part, ...], ...]
    usage: Usage
    finish: str = "STOP"
    finish_message: str | None = None
    refused: bool = False
    blocked: str | None = None
    grounding: dict[str, Any] | None = None

    @property
    def images(self) -> int:
        """The pictures that are billed."""
        return sum(is_billed(part) for parts in self.candidates for part in parts)


@dataclass(frozen=True)
class Asked:
    """A generateContent request as far as the answer hangs on it."""

    model: Model
    how: Behaviour
    conversation: list[dict[str, Any]]
    config: dict[str, Any]
    tools: list[dict[str, Any]]
    calling: dict[str, Any]
    prompt: str
    """The texts of the last content, as sent."""
    usage: Usage
    """What the prompt costs."""

    @property
    def searches(self) -> int:
        """As many as are asked for; where Google Search is among the tools, one at least."""
        return self.how.search or int(any("googleSearch" in tool for tool in self.tools))

    @property
    def most(self) -> int:
        """Tokens that the answer may have, thinking included."""
        given = self.config.get("maxOutputTokens")
        return _UNBOUNDED if given is None else int(given)

    @property
    def chance(self) -> bytes:
        """32 bytes that hang on model and prompt: what would be chance, were it not to be the same each time."""
        return hashlib.sha256(f"{self.model.id}\n{self.prompt}".encode()).digest()


def is_billed(part: Part) -> bool:
    """Whether a part is a picture that is billed, as drafts aren't."""
    return "inlineData" in part and not part.get("thought")


def understood(model: Model, request: dict[str, Any], how: Behaviour) -> Asked:
    """Raises ApiError (400) for a conversation without content, bad inline data, an unknown tier or a bound below 0."""
    conversation = requests.contents(request)
    requests.check_blobs(conversation)
    tier = (request.get("serviceTier") or "standard").lower()
    if tier not in TIERS:
        raise errors.bad_fields([("service_tier", f"Invalid value at 'service_tier' (type ServiceTier), \"{tier}\"")])
    config = request.get("generationConfig") or {}
    if (config.get("maxOutputTokens") or 0) < 0:
        said = "max_output_tokens must be positive."
        raise errors.invalid(f"* GenerateContentRequest.generation_config.max_output_tokens: {said}\n")
    return Asked(
        model=model,
        how=how,
        conversation=conversation,
        config=config,
        tools=request.get("tools") or [],
        calling=(request.get("toolConfig") or {}).get("functionCallingConfig") or {},
        prompt="\n".join(requests.texts(conversation[-1])),
        usage=replace(prompt_usage(model, request, how), tier=how.tier or tier, tool_use=how.tool_use),
    )


def prompt_usage(model: Model, request: dict[str, Any], how: Behaviour) -> Usage:
    """What the prompt costs. Raises ApiError (400) where there is none."""
    spoken = [request.get("systemInstruction"), *requests.contents(request)]
    return prompt_of(spoken, model.reference_tokens, how.cached)


def answer(asked: Asked, cache: PictureCache) -> Answer:
    """The answer. Raises ApiError (400) for what the model doesn't offer. Takes a while where pictures are drawn."""
    how = asked.how
    if how.block is not None:
        return Answer((), asked.usage, blocked=how.block)
    drawn = _pictures(asked, cache) if asked.model.draws else _texts(asked)
    if how.refuse is not None:
        usage = replace(drawn.usage, text=0, image=0, thoughts=drawn.usage.thoughts or 100)
        said = f"The model refused to answer ({how.refuse}). Try rephrasing the prompt."
        return Answer(((),), usage, how.refuse, said, refused=True)
    return replace(drawn, finish=how.finish or drawn.finish, grounding=_grounding(asked) if asked.searches else None)


def _pictures(asked: Asked, cache: PictureCache) -> Answer:
    model, how, chance = asked.model, asked.how, asked.chance
    if asked.tools and any("functionDeclarations" in tool for tool in asked.tools):
        raise errors.invalid(f"Function calling is not enabled for models/{model.id}")
    if asked.config.get("responseMimeType") == "application/json":
        raise errors.invalid("JSON mode is not enabled for this model")
    modalities = _modalities(asked)
    width, height, tokens = _size(asked)
    wanted = 0 if "IMAGE" not in modalities else 1 if how.images is None else how.images
    leads = chance[0] % 3 == 0 if how.lead_text is None else how.lead_text
    lead = "Here is the picture you asked for." if how.text_bytes is None else _exactly(_FILLER, how.text_bytes)
    if not ((leads and "TEXT" in modalities) or not wanted or how.text_bytes):
        lead = ""
    # What there is room for: pictures first, then what is thought, what is said, and what Google bills beside pictures
    # (88 to 630 tokens that it doesn't break down).
    count = min(wanted, asked.most // tokens)
    room = asked.most - count * tokens
    thoughts = min(_thoughts(asked), room)
    said = lead.encode()[: (room - thoughts) * 4].decode(errors="ignore")
    text = text_tokens([said])
    beside = min(88 + chance[1] * 2, room - thoughts - text) if model.thinks and count else 0
    parts: list[Part] = [{"text": said}] if said else []
    references = sum(kind.startswith("image/") for kind in requests.media_types(asked.conversation))
    prompt = without_directives(asked.prompt)
    kind = model.media_type if how.image_type is None else f"image/{how.image_type}"
    for index in range(how.drafts + count):
        picture = Picture(width, height, prompt, references, index, kind, how.image_bytes)
        drawn = _inline(picture, asked, cache)
        parts.append(drawn | {"thought": True} if index < how.drafts else drawn)
    usage = replace(asked.usage, text=beside + text, image=count * tokens, thoughts=thoughts)
    return Answer((tuple(parts),), usage, "STOP" if (count, said) == (wanted, lead) else "MAX_TOKENS")


def _modalities(asked: Asked) -> set[str]:
    given = {one.upper() for one in asked.config.get("responseModalities") or []}
    default = {"TEXT", "IMAGE"} if asked.model.draws else {"TEXT"}
    if given - default:
        wanted = ", ".join(sorted(given)).lower()
        raise errors.invalid(
            f"The requested combination of response modalities ({wanted}) is not supported by the model."
        )
    return given or default


def _size(asked: Asked) -> tuple[int, int, int]:
    """Width and height in pixels, and the tokens of one such picture."""
    model = asked.model
    config = asked.config.get("imageConfig") or (asked.config.get("responseFormat") or {}).get("image") or {}
    ratio, size = config.get("aspectRatio") or "1:1", config.get("imageSize")
    if ratio not in model.pixels:
        raise errors.invalid(f"Aspect ratio {ratio} is not supported for this model")
    size = "512" if size == "0.5K" else size
    if size is not None and (not model.sized or size not in model.image_tokens):
        raise errors.invalid(f"Image size {size} is not supported for this model")
    width, height = model.size(ratio, size or "1K")
    return width, height, model.image_tokens[size or "1K"]


def _inline(picture: Picture, asked: Asked, cache: PictureCache) -> Part:
    if asked.how.url is not None:
        ending = picture.media_type.partition("/")[2]
        data = asked.how.url or f"https://example.com/emulated/{asked.chance.hex()[:16]}-{picture.index}.{ending}"
    else:
        data = base64.b64encode(cache.file(picture)).decode()
    part: Part = {"inlineData": {"mimeType": picture.media_type, "data": data}}
    if asked.model.thinks:
        part["thoughtSignature"] = base64.b64encode(asked.chance * 3).decode()
    return part


def _texts(asked: Asked) -> Answer:
    _modalities(asked)
    config, how = asked.config, asked.how
    count = config.get("candidateCount", 1)
    if not 1 <= count <= 8:
        raise errors.invalid(
            "* GenerateContentRequest.generation_config.candidate_count: must be in the range [1, 8].\n"
        )
    if (call := _function_call(asked)) is not None:
        usage = replace(asked.usage, text=text_tokens([json.dumps(call)]), thoughts=_thoughts(asked))
        return Answer(((call,),), usage)
    text, finish = _text(asked), "STOP"
    thoughts = _thoughts(asked)
    if text_tokens([text]) + thoughts > asked.most:
        text, finish = text.encode()[: asked.most * 4].decode(errors="ignore"), "MAX_TOKENS"
        thoughts = min(thoughts, asked.most - text_tokens([text]))
    parts: list[Part] = [{"text": text}]
    if thoughts and (config.get("thinkingConfig") or {}).get("includeThoughts"):
        parts.insert(0, {"text": "The emulator pretends to think.", "thought": True})
    usage = replace(asked.usage, text=count * text_tokens([text]), thoughts=thoughts)
    return Answer((tuple(parts),) * count, usage, how.finish or finish)


def _text(asked: Asked) -> str:
    config, how = asked.config, asked.how
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    if schema is not None or config.get("responseMimeType") == "application/json":
        return json.dumps(schemas.example(schema if schema is not None else {"type": "object"}), ensure_ascii=False)
    returned = [
        part["functionResponse"] for part in requests.parts(asked.conversation[-1]) if "functionResponse" in part
    ]
    if returned:
        said = "; ".join(f"{one.get('name')} returned {json.dumps(one.get('response'))}" for one in returned)
    else:
        said = without_directives(asked.prompt)[:400]
    turn = sum(content.get("role") != "model" for content in asked.conversation)
    text = f"{asked.model.id} answers turn {turn}: {said}"
    if how.text_bytes is not None:
        return _exactly(text + " ", how.text_bytes)
    if how.chunks is not None and len(text) < how.chunks:
        return _exactly(text + " ", how.chunks)
    return text


def _exactly(text: str, size: int) -> str:
    """The text over and over, cut to so many bytes."""
    encoded = text.encode()
    cut = (encoded * (size // len(encoded) + 1))[:size].decode(errors="ignore")
    return cut + "." * (size - len(cut.encode()))


def _function_call(asked: Asked) -> Part | None:
    """A call of the first declared function whose name occurs in the prompt; of the first one at all in mode ANY."""
    mode = (asked.calling.get("mode") or "AUTO").upper()
    if mode == "NONE":
        return None
    declared = [one for tool in asked.tools for one in tool.get("functionDeclarations") or []]
    if allowed := asked.calling.get("allowedFunctionNames"):
        declared = [one for one in declared if one.get("name") in allowed]
    called = next((one for one in declared if one.get("name") and one["name"] in asked.prompt), None)
    if called is None and mode == "ANY":
        called = next(iter(declared), None)
    if called is None:
        return None
    arguments = schemas.example(called.get("parameters") or called.get("parametersJsonSchema") or {"type": "object"})
    return {"functionCall": {"name": called["name"], "args": arguments}}


def _thoughts(asked: Asked) -> int:
    if asked.how.thoughts is not None:
        return asked.how.thoughts
    thinking = asked.config.get("thinkingConfig") or {}
    level = (thinking.get("thinkingLevel") or "").lower()
    if not asked.model.thinks or level == "minimal" or thinking.get("thinkingBudget") == 0:
        return 0
    return (700 if level == "high" else 100) + asked.chance[2] % 100


def _grounding(asked: Asked) -> dict[str, Any]:
    queries = [f"query {number + 1} about {without_directives(asked.prompt)[:60]}" for number in range(asked.searches)]
    return {
        "searchEntryPoint": {"renderedContent": "<div>Emulated search</div>"},
        "groundingChunks": [{"web": {"uri": "https://example.com/", "title": "example.com"}}],
        "webSearchQueries": queries,
    }
