"""Google's native answers in OpenAI's shape, as its compatibility layer gives them: completions, chunks, usage, lists.

Shapes as users captured them: fields in alphabetical order, one line of JSON, a stream's tool calls whole and without
an index, refusals as `content_filter: REASON` in a choice without a message.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from proxy.emulator.answers import Part, is_billed
from proxy.emulator.behaviours import Behaviour
from proxy.emulator.models import Model

DONE = b"data: [DONE]\n\n"
_FINISHED = {"STOP": "stop", "MAX_TOKENS": "length"}


class Stamp(NamedTuple):
    """What every chunk of one completion bears. `created`: Unix seconds."""

    id: str
    created: int
    model: str


def in_a_line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def events(values: Iterable[Any]) -> list[bytes]:
    return [b"data: " + in_a_line(value) + b"\n\n" for value in values]


def completion(native: dict[str, Any], stamp: Stamp, how: Behaviour) -> dict[str, Any]:
    """A generateContent response as a chat.completion."""
    return _stamped(_choices(native, "message"), stamp, "chat.completion") | usage_of(native, how)


def chunks(natives: Sequence[dict[str, Any]], stamp: Stamp, how: Behaviour, *, usage: bool) -> list[dict[str, Any]]:
    """A native stream as chat.completion.chunk; with `usage` where the client asked for it, by `how.usage_chunk`."""
    made = [_stamped(_choices(native, "delta"), stamp, "chat.completion.chunk") for native in natives]
    if not usage:
        return made
    shown = [usage_of(native, how) for native in natives]
    if how.usage_chunk == "every":
        return [chunk | found for chunk, found in zip(made, shown, strict=True)]
    if how.usage_chunk == "finish":
        return [*made[:-1], made[-1] | shown[-1]]
    own = _stamped([], stamp, "chat.completion.chunk")
    return [*made, own | shown[-1]] if shown[-1] else made


def usage_of(native: dict[str, Any], how: Behaviour) -> dict[str, Any]:
    """{"usage": …} from a response's usageMetadata, null where that is null; empty where there is none.

    Thoughts are in the total alone, unless `how.reasoning` says `beside` completion_tokens, or `within` them.
    """
    if "usageMetadata" not in native:
        return {}
    found = native["usageMetadata"]
    if found is None:
        return {"usage": None}
    thoughts = found.get("thoughtsTokenCount", 0)
    completed = found.get("candidatesTokenCount", 0) + (thoughts if how.reasoning == "within" else 0)
    usage: dict[str, Any] = {"completion_tokens": completed}
    if how.reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": thoughts}
    usage["prompt_tokens"] = found.get("promptTokenCount", 0)
    if cached := found.get("cachedContentTokenCount"):
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return {"usage": usage | {"total_tokens": found.get("totalTokenCount", 0)}}


def embeddings(vectors: Sequence[Sequence[float]], model: Model, *, packed: bool) -> dict[str, Any]:
    """The list of embeddings; `packed` as base64 of little-endian 32-bit floats."""
    data = [
        {"embedding": _packed(vector) if packed else vector, "index": index, "object": "embedding"}
        for index, vector in enumerate(vectors)
    ]
    return {"data": data, "model": model.id, "object": "list"}


def model_entry(model: Model) -> dict[str, Any]:
    return {"id": f"models/{model.id}", "object": "model", "owned_by": "google"}


def images(parts: Iterable[Part], created: int) -> dict[str, Any]:
    """The pictures among an answer's parts. Where a URL stands in place of base64 it comes as OpenAI's `url`."""
    blobs = [part["inlineData"]["data"] for part in parts if is_billed(part)]
    return {"created": created, "data": [{"url" if "://" in blob[:16] else "b64_json": blob} for blob in blobs]}


def _stamped(choices: list[dict[str, Any]], stamp: Stamp, kind: str) -> dict[str, Any]:
    return {"choices": choices, "created": stamp.created, "id": stamp.id, "model": stamp.model, "object": kind}


def _choices(native: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """`name` is what a choice holds: its message, or the delta of a stream."""
    if blocked := (native.get("promptFeedback") or {}).get("blockReason"):
        return [{"finish_reason": f"content_filter: {blocked}", "index": 0}]
    return [_choice(candidate, name) for candidate in native.get("candidates") or []]


def _choice(candidate: dict[str, Any], name: str) -> dict[str, Any]:
    parts = candidate["content"]["parts"]
    finish = candidate.get("finishReason")
    choice: dict[str, Any] = {}
    if parts is not None:
        choice[name] = _spoken(parts)
    if finish is not None:
        called = finish == "STOP" and any("functionCall" in part for part in parts or ())
        choice["finish_reason"] = "tool_calls" if called else _FINISHED.get(finish) or f"content_filter: {finish}"
    return choice | {"index": candidate["index"]}


def _spoken(parts: Sequence[Part]) -> dict[str, Any]:
    texts = [_text(part) for part in parts if "text" in part or is_billed(part)]
    spoken: dict[str, Any] = {"content": "".join(texts)} if texts else {}
    spoken["role"] = "assistant"
    calls = [_call(part["functionCall"]) for part in parts if "functionCall" in part]
    return spoken | {"tool_calls": calls} if calls else spoken


def _text(part: Part) -> str:
    """Pictures come as Markdown, thoughts between tags."""
    if blob := part.get("inlineData"):
        url = blob["data"] if "://" in blob["data"][:16] else f"data:{blob['mimeType']};base64,{blob['data']}"
        return f"![image]({url})"
    text: str = part.get("text", "")
    return f"<thought>{text}</thought>" if part.get("thought") else text


def _call(call: dict[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(call["args"], separators=(",", ":"), ensure_ascii=False)
    id_ = int.from_bytes(hashlib.sha256(f"{call['name']}{arguments}".encode()).digest()[:8])
    return {
        "function": {"arguments": arguments, "name": call["name"]},
        "id": f"function-call-{id_}",
        "type": "function",
    }


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
