"""What must be known of a request body in OpenAI's shape: its model, whether it streams, what it weighs, what it names.

Everything hangs on such a body, so all of it but inline data is parsed, strictly, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from proxy.errors import CallerErred, Reason
from proxy.gemini import calls, generation, openai_media, references, spans
from proxy.gemini.aliases import PREFIX, Aliases, splice_of
from proxy.gemini.bodies import BodyFacts, Buffer, Named, check_start
from proxy.gemini.bounds import ANY_COUNT, Bounds
from proxy.gemini.edits import Splice
from proxy.gemini.inline import DATA_URLS, Text, without_base64
from proxy.gemini.openai_media import Media
from proxy.gemini.references import camel, fold

CHAT = "openai.chat.completions"
EMBEDDINGS = "openai.embeddings"
PICTURES = "openai.images.generations"
OPERATIONS = frozenset((CHAT, EMBEDDINGS, PICTURES))

READ_AT_ONCE = 8 * 1024
"""Bytes of text up to which reading takes less than 5 ms, whatever is in them."""

_KNOWN = {
    fold(name): name
    for name in (
        *("model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "service_tier"),
        *("tools", "modalities", "web_search_options", "extra_body", "google"),
    )
}
"""What is read of a body, by folded name."""
_CAPS = ("max_tokens", "max_completion_tokens")
_OPTIONS = {fold("include_usage"): "include_usage"}
_SPLICED_IN = b'"stream_options":{"include_usage":true},'
_NATIVE = "POST /v1beta/models/MODEL:generateContent"


class Outline:
    """A body once skimmed over. `read` goes on from there; where it is `costly`, in a thread."""

    __slots__ = ("_length", "_text")

    def __init__(self, body: Buffer, text: Text) -> None:
        self._length = len(body)
        self._text = text

    def costly(self, *, bounded: bool = False, aliased: bool = False) -> bool:
        """`read` may take more than 5 ms, with or without bounds and aliases."""
        return self._text.length > READ_AT_ONCE

    def read(
        self,
        operation_name: str,
        model: str,
        upstream_hosts: frozenset[str],
        *,
        bounded: bool = False,
        aliases: Aliases | None = None,
    ) -> BodyFacts:
        """As `bodies.Outline.read`; the model is the body's to say. Raises CallerErred."""
        text = self._text
        if text.length > references.MAX_PARSED:
            raise references.too_long()
        whole = text.whole()
        document = references.parse(whole, upstream_hosts)
        if not isinstance(document, dict):
            raise _bad("The body must be a JSON object.")
        fields = _known(document, _KNOWN)
        named = _named(fields, operation_name, aliases)
        asked = _asked(fields)
        _check_tools(fields)
        if operation_name == CHAT and asked.pictures:
            raise pictures_in_chat()
        media = openai_media.read(document, upstream_hosts, text.left_out)
        facts = self._facts(media, asked)._replace(named=named, asks_images=operation_name == PICTURES)
        if bounded:
            facts = facts._replace(bounds=_bounds(facts, media, asked))
        splices = list(self._splices(whole, named, fields))
        if not splices:
            return facts
        return facts._replace(splices=tuple(splices), growth=sum(splice.growth for splice in splices))

    def _facts(self, media: Media, asked: _Asked) -> BodyFacts:
        left_out = self._length - self._text.length
        each = left_out * 3 // 4 // max(self._text.left_out, 1)
        return BodyFacts(
            candidates=asked.number or 1,
            max_output_tokens=asked.cap,
            inline_pictures=media.pictures,
            text_bytes=self._length if media.texts else self._text.length,
            audio_bytes=media.audio * each,
            video_bytes=media.videos * each,
            document_bytes=media.documents * each,
        )

    def _splices(self, whole: bytes | bytearray, named: Named, fields: dict[str, Any]) -> Iterator[Splice]:
        """Those of the body, in order: none of them reaches over inline data."""
        if named.used == named.model and not named.adds_usage:
            return
        of_text = _spliced(str(whole, "latin-1"), named, has_options="stream_options" in fields)
        yield from self._text.in_body(sorted(of_text))


def skim(body: Buffer) -> Outline:
    """Steps over a body's inline data, as `bodies.skim` does. Raises CallerErred likewise."""
    check_start(body)
    return Outline(body, without_base64(body, DATA_URLS))


def pictures_in_chat() -> CallerErred:
    """The refusal of a chat whose answer may hold pictures: the layer's usage doesn't tell their tokens from text."""
    return _bad(
        "Pictures can't be made with chat/completions here: its usage doesn't say how much of an answer is picture. "
        f"Use {_NATIVE}, or POST /v1/images/generations of this proxy.",
        "model",
    )


class _Asked(NamedTuple):
    number: int | None
    """Of answers or pictures; None where it is asked for in a way that isn't understood here."""
    cap: int | None
    tier: bool
    pictures: bool


def _known(document: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The members that are read, by their names in snake_case. One that is spelt otherwise, or twice, is refused."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        name = names.get(fold(key))
        if name is not None:
            if key not in (name, camel(name)) or name in found:
                raise _bad(f"A member of the body reads like {name} and is none. Write it once, as {name}.", name)
            found[name] = value
    return found


def _named(fields: dict[str, Any], operation_name: str, aliases: Aliases | None) -> Named:
    asked = fields.get("model")
    if not isinstance(asked, str) or not asked:
        raise _bad('The body names no model. Send its id, as in "model": "gemini-3.8-flash".', "model")
    model = asked.removeprefix(PREFIX)
    try:
        calls.check_model(model)
    except CallerErred as refusal:
        refusal.param = "model"
        raise
    streams, adds_usage = _streams(fields, operation_name)
    return Named(model, model if aliases is None else aliases.used(model), streams, adds_usage)


def _streams(fields: dict[str, Any], operation_name: str) -> tuple[bool, bool]:
    """Whether it streams, and then, whether its usage must be asked for."""
    streams = fields.get("stream")
    if streams is not None and not isinstance(streams, bool):
        raise _bad("stream must be true or false.", "stream")
    if not streams:
        return False, False
    if operation_name != CHAT:
        raise _bad(f"{operation_name} can't be streamed here. Leave stream out.", "stream")
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _bad("stream_options must be an object.", "stream_options")
    includes = _known(options or {}, _OPTIONS).get("include_usage")
    if includes is not None and not isinstance(includes, bool):
        raise _bad("stream_options.include_usage must be true or false.", "stream_options")
    return True, not includes


def _asked(fields: dict[str, Any]) -> _Asked:
    count = 1 if fields.get("n") is None else generation.count(fields["n"])
    caps = [generation.count(fields[name]) for name in _CAPS if fields.get(name) is not None]
    tier = fields.get("service_tier") is not None
    modalities = fields.get("modalities")
    pictures = isinstance(modalities, list) and "image" in modalities
    for name, value in openai_media.members([fields.get("extra_body"), fields.get("google")]):
        # What Google's own settings do here isn't documented: any that could raise the cost does.
        if name in ("candidatecount", "n"):
            count = None
        elif name in ("maxoutputtokens", "maxtokens", "maxcompletiontokens"):
            caps.append(None)
        tier |= name == "servicetier"
        pictures |= name in ("imageconfig", "responsemodalities", "modalities") and bool(value)
    known = [cap for cap in caps if cap is not None]
    return _Asked(count, max(known) if known and len(known) == len(caps) else None, tier, pictures)


def _check_tools(fields: dict[str, Any]) -> None:
    """What Google would run is refused: nothing in an answer of the layer tells how often it did, and it is charged."""
    tools = fields.get("tools") or []
    listed = isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    if not listed or any(tool.get("type") != "function" or not tool.keys() <= _OF_FUNCTIONS for tool in tools):
        raise _unmeterable("tools")
    if fields.get("web_search_options") is not None:
        raise _unmeterable("web_search_options")
    for name, value in openai_media.members([fields.get("extra_body"), fields.get("google")]):
        if name == "tools" and value:
            raise _unmeterable("tools")


_OF_FUNCTIONS = frozenset({"type", "function", "cache_control"})


def _bounds(facts: BodyFacts, media: Media, asked: _Asked) -> Bounds:
    return Bounds(
        facts.text_bytes,
        facts.inline_pictures,
        unbounded_input=media.unbounded,
        searches=False,
        asks_tier=asked.tier,
        candidates=ANY_COUNT if asked.number is None else asked.number,
        max_output_tokens=asked.cap,
    )


def _spliced(source: str, named: Named, *, has_options: bool) -> Iterator[Splice]:
    top = spans.begins(source)
    if named.adds_usage and not has_options:
        yield Splice(top + 1, top + 1, _SPLICED_IN)
        if named.used == named.model:
            return
    for key, span in spans.members(source, top):
        name = _KNOWN.get(fold(key))
        if name == "model" and named.used != named.model:
            yield splice_of(source, span, named.used)
        elif name == "stream_options" and named.adds_usage:
            yield _including(source, span)


def _including(source: str, options: spans.Span) -> Splice:
    """Puts include_usage into stream_options, which is null, or an object that says false, null or nothing of it."""
    start, end = options
    if source[start] != "{":
        return Splice(start, end, b'{"include_usage":true}')
    others = False
    for key, span in spans.members(source, start):
        if fold(key) in _OPTIONS:
            return Splice(*span, b"true")
        others = True
    return Splice(start + 1, start + 1, b'"include_usage":true' + b"," * others)


def _bad(message: str, param: str = "") -> CallerErred:
    return CallerErred(Reason.BAD_REQUEST, message, param=param)


def _unmeterable(param: str) -> CallerErred:
    return CallerErred(
        Reason.UNMETERABLE_PARAMETER,
        f"In {param} only functions are taken here: how often another tool was used, which is charged, doesn't show in "
        f"this layer's answers. Use {_NATIVE} for tools that Google runs.",
        param=param,
    )
