"""What Google's OpenAI compatibility layer is asked for: its fields, and a chat as the generateContent that it means.

Fields: Google's reference of the layer (ai.google.dev/api/compatibility) and its guide (…/gemini-api/docs/openai).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from proxy.emulator import errors, requests
from proxy.emulator.requests import Tree, fields

Part = dict[str, Any]

_GOOGLE: Tree = {
    "thinkingConfig": requests.THINKING,
    "cachedContent": str,
    "imageConfig": requests.IMAGE,
    "*": None,
}
_MESSAGE: Tree = {"role": str, "content": None, "toolCalls": [{"*": None}], "toolCallId": str, "name": str, "*": None}
_TOOL: Tree = {"type": str, "function": {"name": str, "parameters": None, "*": None}, "*": None}
CHAT: Tree = fields(
    "audio frequencyPenalty logitBias logprobs metadata modalities parallelToolCalls presencePenalty seed stop store "
    "temperature toolChoice topLogprobs topP user webSearchOptions"
) | {
    "model": str,
    "messages": [_MESSAGE],
    "stream": None,
    "streamOptions": {"includeUsage": None, "*": None},
    "n": int,
    "maxTokens": int,
    "maxCompletionTokens": int,
    "reasoningEffort": str,
    "responseFormat": {"type": str, "jsonSchema": {"schema": None, "*": None}, "*": None},
    "serviceTier": str,
    "tools": [_TOOL],
    "extraBody": {"google": _GOOGLE, "*": None},
    "google": _GOOGLE,
}
EMBEDDINGS: Tree = {"model": str, "input": None, "dimensions": int, "encodingFormat": str, "user": str}
_NATIVE = fields(" ".join(requests.GENERATE.keys() - {"model"}), requests.UNKNOWN)
IMAGES: Tree = _NATIVE | {"model": str, "prompt": str, "n": int, "size": str, "responseFormat": str, "*": None}

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_LEVELS = ("minimal", "low", "medium", "high")
_TIERS = {"auto": "standard", "default": "standard"}
_CHOICES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}


def generate(chat: dict[str, Any]) -> dict[str, Any]:
    """The generateContent request, in camelCase, that a chat means.

    Raises ApiError (400) for messages that have no such meaning, and for thinking that is asked for twice.
    """
    messages = chat.get("messages") or []
    system = [part for one in messages if _role(one) == "system" for part in _parts(one.get("content"))]
    google = (chat.get("extraBody") or {}).get("google") or chat.get("google") or {}
    tier = chat.get("serviceTier") or "standard"
    return {
        "contents": _contents([one for one in messages if _role(one) != "system"]),
        "systemInstruction": {"parts": system} if system else None,
        "generationConfig": _config(chat, google),
        "tools": _tools(chat.get("tools") or []),
        "toolConfig": {"functionCallingConfig": _calling(chat.get("toolChoice"))},
        "cachedContent": google.get("cachedContent"),
        "serviceTier": _TIERS.get(tier, tier),
    }


def inputs(asked: Any) -> list[str]:
    """The texts to embed. Raises ApiError (400) for anything but one or several texts."""
    found = asked if isinstance(asked, list) else [asked]
    if not found or not all(isinstance(text, str) for text in found):
        raise errors.invalid("Invalid value at 'input': a string, or a list of strings, is expected.")
    return found


def _role(message: dict[str, Any]) -> str:
    role: str = message.get("role") or ""
    return "system" if role == "developer" else role


def _contents(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    called: dict[str, str] = {}
    found = []
    for message in messages:
        read = _READERS.get(_role(message))
        if read is None:
            raise errors.invalid(f"Please use a valid role: user, model. Got {message.get('role')!r}.")
        role = "model" if _role(message) == "assistant" else "user"
        found.append({"role": role, "parts": read(message, called)})
    return found


def _said(message: dict[str, Any], called: dict[str, str]) -> list[Part]:
    return _parts(message.get("content"))


def _answered(message: dict[str, Any], called: dict[str, str]) -> list[Part]:
    """An assistant's message; `called` learns the functions' names by the ids of their calls."""
    parts = _parts(message.get("content"))
    for call in message.get("toolCalls") or []:
        function = call.get("function") or {}
        called[str(call.get("id"))] = name = str(function.get("name"))
        parts.append({"functionCall": {"name": name, "args": _json(function.get("arguments"))}})
    return parts


def _returned(message: dict[str, Any], called: dict[str, str]) -> list[Part]:
    name = message.get("name") or called.get(message.get("toolCallId") or "", "unknown_function")
    said = "".join(part.get("text", "") for part in _parts(message.get("content")))
    return [{"functionResponse": {"name": name, "response": _json(said)}}]


_READERS: dict[str, Callable[[dict[str, Any], dict[str, str]], list[Part]]] = {
    "user": _said,
    "assistant": _answered,
    "tool": _returned,
    "function": _returned,
}


def _parts(content: Any) -> list[Part]:
    """Content as native parts: a text, or a list of texts, pictures and sounds."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise errors.invalid("Invalid content: a string, or a list of content parts, is expected.")
    return [_part(part) for part in content]


def _part(part: dict[str, Any]) -> Part:
    kind, value = part.get("type"), part.get(str(part.get("type")))
    if kind == "text" and isinstance(value, str):
        return {"text": value}
    if kind == "image_url" and isinstance(url := value.get("url") if isinstance(value, dict) else value, str):
        return _medium(url)
    if kind == "input_audio" and isinstance(value, dict):
        return {"inlineData": {"mimeType": f"audio/{value.get('format')}", "data": str(value.get("data"))}}
    raise errors.invalid(f"Invalid content part type: {kind}")


def _medium(url: str) -> Part:
    if found := _DATA_URL.fullmatch(url):
        return {"inlineData": {"mimeType": found[1], "data": found[2]}}
    if url.startswith(("https://", "http://")):
        return {"fileData": {"mimeType": "image/jpeg", "fileUri": url}}
    raise errors.invalid("Invalid image_url: a data URL with base64, or an http(s) URL, is expected.")


def _config(chat: dict[str, Any], google: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "candidateCount": chat.get("n", 1),
        "maxOutputTokens": chat.get("maxCompletionTokens") or chat.get("maxTokens"),
        "imageConfig": google.get("imageConfig"),
        "thinkingConfig": _thinking(chat.get("reasoningEffort"), google.get("thinkingConfig")),
    }
    wanted = chat.get("responseFormat") or {}
    if wanted.get("type") in ("json_object", "json_schema"):
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = (wanted.get("jsonSchema") or {}).get("schema")
    return {name: value for name, value in config.items() if value is not None}


def _thinking(effort: str | None, config: dict[str, Any] | None) -> dict[str, Any] | None:
    if effort is None:
        return config
    if config and config.keys() & {"thinkingBudget", "thinkingLevel"}:
        raise errors.invalid("reasoning_effort and thinking_config overlap: please use only one of them.")
    if effort == "none":
        return (config or {}) | {"thinkingBudget": 0}
    if effort not in _LEVELS:
        raise errors.invalid(f"Invalid reasoning_effort: {effort}. Expected one of none, {', '.join(_LEVELS)}.")
    return (config or {}) | {"thinkingLevel": effort}


def _tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    declared = [tool["function"] for tool in tools if tool.get("function")]
    return [{"functionDeclarations": declared}] if declared else []


def _calling(choice: Any) -> dict[str, Any]:
    if isinstance(choice, dict):
        function = choice.get("function")
        return {"mode": "ANY", "allowedFunctionNames": [function.get("name") if isinstance(function, dict) else None]}
    return {"mode": _CHOICES.get(str(choice), "AUTO")}


def _json(text: Any) -> Any:
    """What a text says in JSON; a text that isn't, as `{"result": text}`, which is how a tool's words go up."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {"result": text}
    return found if isinstance(found, dict) else {"result": found}
