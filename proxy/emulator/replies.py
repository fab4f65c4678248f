"""An answer in Google's shape: one GenerateContentResponse, or the chunks of a stream with their running totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from proxy.emulator.answers import Answer, Part, is_billed
from proxy.emulator.behaviours import Behaviour
from proxy.emulator.usage import ABSENT, Usage, mirrored, spoilt

_USUAL_TEXT_CHUNKS = 4


class Stamp(NamedTuple):
    """What every chunk of one reply bears."""

    model_version: str
    response_id: str


class Chunk(NamedTuple):
    """One chunk of a stream, and the true usage up to it."""

    value: dict[str, Any]
    usage: Usage


def single(answer: Answer, stamp: Stamp, how: Behaviour) -> dict[str, Any]:
    """The whole answer as one response."""
    candidates = [_candidate(list(parts), index, answer) for index, parts in enumerate(answer.candidates)]
    return _response(answer, candidates, _shown(answer, answer.usage, how), stamp)


def chunks(answer: Answer, stamp: Stamp, how: Behaviour) -> list[Chunk]:
    """The answer as a stream's chunks, `how.chunks` of them where that is set, the last with the finish reason."""
    streams = [_groups(parts, how.chunks) for parts in answer.candidates]
    if answer.blocked or (streams and not any(streams)):
        return [Chunk(single(answer, stamp, how), answer.usage)]
    count = max(len(groups) for groups in streams) + (how.chunks != 1)
    made = []
    pictures_shown = 0
    for at in range(count):
        last = at == count - 1
        pictures_shown += sum(is_billed(part) for groups in streams for part in (groups[at : at + 1] or [[]])[0])
        usage = answer.usage if last else _so_far(answer, (at + 1) / count, pictures_shown)
        candidates = [
            _candidate(groups[at] if at < len(groups) else [{"text": ""}], index, answer if last else None)
            for index, groups in enumerate(streams)
            if last or at < len(groups)
        ]
        shown = _shown(answer, usage, how, first=at == 0, last=last)
        made.append(Chunk(_response(answer, candidates, shown, stamp), usage))
    return made


def _response(answer: Answer, candidates: Sequence[dict[str, Any]], shown: Any, stamp: Stamp) -> dict[str, Any]:
    value: dict[str, Any] = {"promptFeedback": {"blockReason": answer.blocked}} if answer.blocked else {}
    if candidates:
        value["candidates"] = list(candidates)
    if shown is not ABSENT:
        value["usageMetadata"] = shown
    return value | {"modelVersion": stamp.model_version, "responseId": stamp.response_id}


def _candidate(parts: list[Part], index: int, ending: Answer | None) -> dict[str, Any]:
    """`ending` is the answer where this is the end of the candidate. A refusal's parts are null, as Google's are."""
    refused = ending is not None and ending.refused
    value: dict[str, Any] = {"content": {"parts": None if refused else parts, "role": "model"}}
    if ending is not None:
        value["finishReason"] = ending.finish
    value["index"] = index
    if ending is not None and ending.finish_message:
        value["finishMessage"] = ending.finish_message
    if ending is not None and ending.grounding:
        value["groundingMetadata"] = ending.grounding
    return value


def _shown(answer: Answer, usage: Usage, how: Behaviour, *, first: bool = True, last: bool = True) -> Any:
    shown = spoilt(usage, how.usage, first=first, last=last)
    return mirrored(shown) if answer.refused and how.usage is None else shown


def _so_far(answer: Answer, share: float, pictures: int) -> Usage:
    image = answer.usage.image * pictures // answer.images if pictures else 0
    return replace(answer.usage, text=int(answer.usage.text * share), image=image)


def _groups(parts: Sequence[Part], wanted: int | None) -> list[list[Part]]:
    """The parts of one candidate by chunk, without the closing one: texts cut up, pictures and calls whole."""
    if not parts and wanted is None:
        return []
    if wanted == 1:
        return [list(parts)]
    whole = sum("text" not in part for part in parts)
    texts = len(parts) - whole
    cuts = _USUAL_TEXT_CHUNKS if wanted is None else max(1, wanted - 1 - whole - max(0, texts - 1))
    units: list[Part] = []
    for index, part in enumerate(parts):
        final_text = "text" in part and not any("text" in later for later in parts[index + 1 :])
        units += _cut(part, cuts) if final_text else [part]
    if wanted is None:
        return [[unit] for unit in units]
    groups: list[list[Part]] = [[{"text": ""}] for _ in range(wanted - 1 - len(units))]
    room = wanted - 1 - len(groups)
    return groups + [units[len(units) * at // room : len(units) * (at + 1) // room] for at in range(room)]


def _cut(part: Part, count: int) -> list[Part]:
    text = part["text"]
    count = max(1, min(count, len(text)))
    return [part | {"text": text[len(text) * at // count : len(text) * (at + 1) // count]} for at in range(count)]
