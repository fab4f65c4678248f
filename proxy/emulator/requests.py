"""What a request body asks for: parsed, its fields checked as Google checks them, both spellings made one."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from proxy.emulator import errors

Tree = dict[str, Any]
"""The field names of a message, in camelCase, with their kinds: a Tree (a message), `int`, `str`, None (anything), or a
list of one kind (repeated). "*" allows names beside these."""


def fields(names: str, kind: Any = None) -> Tree:
    return dict.fromkeys(names.split(), kind)


_BLOB: Tree = fields("mimeType data displayName", str)
_PART: Tree = fields(
    "thought thoughtSignature fileData functionResponse functionCall executableCode codeExecutionResult videoMetadata "
    "mediaResolution partMetadata toolCall toolResponse audioTranscription mediaProcessing"
) | {"text": str, "inlineData": _BLOB}
_CONTENT: Tree = {"parts": [_PART], "role": str}
IMAGE: Tree = fields(
    "personGeneration prominentPeople outputMimeType outputCompressionQuality imageOutputOptions"
) | fields("aspectRatio imageSize", str)
THINKING: Tree = {"includeThoughts": None, "thinkingBudget": int, "thinkingLevel": str}
_CONFIG: Tree = fields(
    "audioTranscriptionConfig enableAffectiveDialog enableEnhancedCivicAnswers frequencyPenalty logprobs "
    "mediaResolution presencePenalty responseJsonSchema responseLogprobs responseSchema seed speechConfig "
    "stopSequences temperature topK topP translationConfig"
) | {
    "candidateCount": int,
    "maxOutputTokens": int,
    "responseMimeType": str,
    "responseModalities": [str],
    "imageConfig": IMAGE,
    "thinkingConfig": THINKING,
    "responseFormat": {"image": IMAGE, "*": None},
}
_DECLARATION: Tree = fields("parameters parametersJsonSchema response responseJsonSchema behavior description") | {
    "name": str
}
_CALLING: Tree = {"mode": str, "allowedFunctionNames": [str], "streamFunctionCallArguments": None}
GENERATE: Tree = fields("safetySettings continuationToken store") | {
    "model": str,
    "cachedContent": str,
    "serviceTier": str,
    "contents": [_CONTENT],
    "systemInstruction": _CONTENT,
    "generationConfig": _CONFIG,
    "tools": [{"functionDeclarations": [_DECLARATION], "*": None}],
    "toolConfig": {"functionCallingConfig": _CALLING, "*": None},
}
COUNT: Tree = {"contents": [_CONTENT], "generateContentRequest": GENERATE, "model": str}
_EMBED_CONFIG: Tree = fields("taskType title mimeType autoTruncate documentOcr audioTrackExtraction") | {
    "outputDimensionality": int
}
EMBED: Tree = fields("taskType title") | {
    "model": str,
    "outputDimensionality": int,
    "content": _CONTENT,
    "embedContentConfig": _EMBED_CONFIG,
}
BATCH: Tree = {"requests": [EMBED], "model": str}

UNKNOWN: Any = object()
"""The kind of a field that is refused as unknown where any other unknown field is passed over ("*")."""

_UNDERSCORE = re.compile(r"_([a-z0-9])")
_WHOLE = re.compile(r"-?[0-9]{1,9}(\.0)?")
_CAPITAL = re.compile(r"[A-Z]")


def parse(body: bytes, tree: Tree) -> dict[str, Any]:
    """The request in camelCase. Raises ApiError (400) for what isn't JSON or doesn't fit the message."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        said = f"Invalid JSON payload received. {wrong}"
        raise errors.bad_fields([("", said)]) from None
    if not isinstance(value, dict):
        said = "Invalid JSON payload received. Root element must be a message."
        raise errors.bad_fields([("", said)])
    violations: list[tuple[str, str]] = []
    read = _message(value, tree, "", violations)
    if violations:
        raise errors.bad_fields(violations)
    return read


def parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a content; none where there is no content."""
    return (content or {}).get("parts") or []


def texts(content: Any) -> list[str]:
    return [part["text"] for part in parts(content) if "text" in part]


def contents(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation. Raises ApiError (400) where there is none, in Google's words."""
    found: list[dict[str, Any]] = request.get("contents") or []
    if not found:
        said = "contents is not specified"
        raise errors.bad_fields([("contents", f"* GenerateContentRequest.contents: {said}\n")])
    return found


def check_blobs(conversation: list[dict[str, Any]]) -> None:
    """Raises ApiError (400) for inline data that isn't base64, of the standard or the URL-safe alphabet."""
    for turn, content in enumerate(conversation):
        for index, part in enumerate(parts(content)):
            if blob := part.get("inlineData"):
                _check_blob(str(blob.get("data") or ""), f"contents[{turn}].parts[{index}].inline_data.data")


def media_types(conversation: Iterable[Any]) -> Iterator[str]:
    """The MIME type of every inline or referenced medium, in order."""
    for content in conversation:
        for part in parts(content):
            if medium := part.get("inlineData") or part.get("fileData"):
                yield str(medium.get("mimeType") or medium.get("mime_type") or "application/octet-stream")


def _message(value: dict[str, Any], tree: Tree, path: str, violations: list[tuple[str, str]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, item in value.items():
        folded = _UNDERSCORE.sub(lambda match: match[1].upper(), name)
        if (folded not in tree and "*" not in tree) or tree.get(folded) is UNKNOWN:
            where = f" at '{path}'" if path else ""
            said = f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
            violations.append((path, said))
        elif item is not None:
            read[folded] = _field(item, tree.get(folded), _below(path, folded), violations)
    return read


def _field(value: Any, kind: Any, path: str, violations: list[tuple[str, str]]) -> Any:
    if isinstance(kind, list):
        # Google takes a single element where it expects a list.
        items = value if isinstance(value, list) else [value]
        return [_field(item, kind[0], f"{path}[{index}]", violations) for index, item in enumerate(items)]
    if kind is None or (kind is str and isinstance(value, str)):
        return value
    if isinstance(kind, dict) and isinstance(value, dict):
        return _message(value, kind, path, violations)
    if kind is int and not isinstance(value, bool) and _WHOLE.fullmatch(str(value)):
        return int(float(value))
    name = "TYPE_INT32" if kind is int else "TYPE_STRING" if kind is str else "type message"
    violations.append((path, f"Invalid value at '{path}' ({name}), {msgspec.json.encode(value).decode()}"))
    return None


def _below(path: str, name: str) -> str:
    snake = _CAPITAL.sub(lambda match: "_" + match[0].lower(), name)
    return f"{path}.{snake}" if path else snake


def _check_blob(data: str, path: str) -> None:
    padded = data.replace("-", "+").replace("_", "/") + "=" * (-len(data) % 4)
    try:
        base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        said = f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for \"{data[:40]}\""
        raise errors.bad_fields([(path, said)]) from None
