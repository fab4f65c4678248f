"""What a client asks for: OpenAI's parameters, of JSON or of a form, checked one by one; a refusal names its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from proxy.errors import CallerErred, Reason
from proxy.gateway.images import sizes
from proxy.gemini.references import camel

P = TypeVar("P")

MOST_PICTURES = 10
"""Of one request. OpenAI's bound of `n`."""
LONGEST_PROMPT = 32_000
"""Characters. OpenAI's bound."""
MOST_REFERENCES = 16
"""Pictures that are given to one edit. OpenAI's bound."""

NATIVE = {
    "contents": "prompt",
    "generationConfig": "size, aspect_ratio and quality",
    "imageConfig": "size and aspect_ratio",
    "responseModalities": "nothing, for a picture always comes",
    "safetySettings": "nothing, for there is no such parameter here",
    "systemInstruction": "prompt",
    "tools": "nothing, for there is no such parameter here",
}
"""Fields of generateContent, and what stands for them here."""
WITHOUT_EFFECT = frozenset({"moderation", "user", "safety_identifier"})
"""Taken, and of no effect: Gemini has nothing like them, and what `user` says is nobody's business up there."""
PICTURES = ("image", "image[]", "images", "file", "mask")
FORMATS = ("png", "jpeg", "webp")

_WHOLE = re.compile(r"-?[0-9]{1,9}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]]{0,39}")
_MODEL = re.compile(r"(?:models/)?([A-Za-z0-9][A-Za-z0-9._-]{0,99})")
_UNKNOWN_SHOWN = 5


class ImageRequest(NamedTuple):
    """One request for pictures. What isn't asked for is as OpenAI's documentation has it."""

    prompt: str
    model: str = ""
    """Without "models/"; empty where none is named, "auto" where the server is to choose."""
    n: int = 1
    size: str = "1024x1024"
    aspect_ratio: str = ""
    quality: str = "auto"
    style: str = ""
    background: str = "auto"
    input_fidelity: str = "low"
    output_format: str | None = None
    """None where that of the upstream will do."""
    output_compression: int | None = None
    stream: bool = False
    partial_images: int = 0
    unknown: tuple[str, ...] = ()
    """Names of parameters that nothing here knows, as far as they may be repeated."""


def wrong(param: str, message: str) -> CallerErred:
    """A refusal that names the parameter which is wrong."""
    return CallerErred(Reason.BAD_REQUEST, message, param=param)


def read(fields: Mapping[str, Any], *, edits: bool, form: bool) -> ImageRequest:
    """A request of its fields: decoded JSON, but for the pictures' ; or, of a form, text. Raises CallerErred."""
    given = {name: value for name, value in fields.items() if value is not None and (value != "" or name == "prompt")}
    _check_native(given)
    reads = _Reading(given, form)
    request = ImageRequest(
        prompt=_prompt(given.get("prompt")),
        model=_model(given.get("model", "")),
        n=reads.whole("n", 1, MOST_PICTURES) or 1,
        size=reads.parsed("size", "auto" if edits else "1024x1024", sizes.parse_size, _SIZES_SAID),
        aspect_ratio=reads.parsed("aspect_ratio", "", sizes.parse_ratio, "a ratio such as 1:1, 16:9 or 3:2"),
        quality=reads.one_of("quality", "auto", sizes.QUALITIES),
        style=reads.one_of("style", "", sizes.STYLES),
        background=reads.one_of("background", "auto", sizes.BACKGROUNDS),
        input_fidelity=reads.one_of("input_fidelity", "low", sizes.FIDELITIES),
        output_format=reads.one_of("output_format", "", FORMATS) or None,
        output_compression=reads.whole("output_compression", 0, 100),
        stream=reads.flag("stream"),
        partial_images=reads.whole("partial_images", 0, 3) or 0,
        unknown=tuple(_unknown(given)),
    )
    _check_format(request, given.get("response_format", "b64_json"))
    return request


_SIZES_SAID = (
    f"auto, {', '.join(sizes.STANDARD_SIZES)}, another WIDTHxHEIGHT (sides of {sizes.LEAST_SIDE} to {sizes.MOST_SIDE} "
    f"pixels, divisible by {sizes.STEP}, one at most {sizes.MOST_RATIO} times the other), or Gemini's 512, 1K, 2K, 4K"
)


class _Reading:
    """Reads parameters by name: in JSON each has its type, in a form all are text."""

    def __init__(self, given: Mapping[str, Any], form: bool) -> None:
        self._given = given
        self._form = form

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self._given.get(name)
        if self._form and isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(name, f"{name} must be a whole number from {least} to {most}{_quoted(value)}.")
        return value

    def flag(self, name: str) -> bool:
        value = self._given.get(name, False)
        if self._form and isinstance(value, str):
            value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
        if not isinstance(value, bool):
            raise wrong(name, f"{name} must be true or false.")
        return value

    def one_of(self, name: str, default: str, taken: Collection[str]) -> str:
        value = self._given.get(name, default)
        if value != default and (not isinstance(value, str) or value not in taken):
            raise wrong(name, f"{name} must be one of: {', '.join(taken)}.")
        return str(value)

    def parsed(self, name: str, default: str, parse: Callable[[str], object], taken: str) -> str:
        value = self._given.get(name, default)
        if value != default:
            try:
                parse(value if isinstance(value, str) else "")
            except ValueError:
                raise wrong(name, f"{name} must be one of these: {taken}.") from None
        return str(value)


def _quoted(value: Any) -> str:
    return " (a number, without quotes around it)" if isinstance(value, str) else ""


def _prompt(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise wrong("prompt", "prompt must say, as text, what the picture is to show.")
    if len(value) > LONGEST_PROMPT:
        raise wrong("prompt", f"prompt is {len(value)} characters long; at most {LONGEST_PROMPT} are taken.")
    return value


def _model(value: Any) -> str:
    found = _MODEL.fullmatch(value) if isinstance(value, str) else None
    if found is None and value != "":
        raise wrong("model", "model must be the id of an image model: GET /openai/v1/models lists them.")
    return found[1] if found else ""


def _check_native(given: Mapping[str, Any]) -> None:
    for name in given:
        native = camel(name)
        if native in NATIVE:
            raise wrong(
                name,
                f"{native} is a field of the Gemini API's own generateContent, and this is OpenAI's shape. What that "
                f"has in place of it: {NATIVE[native]}. Or send the whole request, as it is, to "
                "POST /v1beta/models/MODEL:generateContent.",
            )


def _check_format(request: ImageRequest, response_format: Any) -> None:
    if response_format != "b64_json":
        raise wrong("response_format", "response_format must be b64_json: pictures come in the answer, none is hosted.")
    if request.background == "transparent" and request.output_format == "jpeg":
        raise wrong("background", "A jpeg has no transparent background: ask for output_format png or webp.")
    if request.output_compression is not None and request.output_format not in ("jpeg", "webp"):
        raise wrong("output_compression", "output_compression goes with output_format jpeg or webp: name one of them.")


_KNOWN = frozenset(ImageRequest._fields) | WITHOUT_EFFECT | set(PICTURES) | {"response_format"}


def _unknown(given: Mapping[str, Any]) -> list[str]:
    """Names that nothing here knows: OpenAI's SDKs send new ones from time to time."""
    return [name for name in given if name not in _KNOWN and _NAME.fullmatch(name)][:_UNKNOWN_SHOWN]


class Named(NamedTuple):
    """A picture that JSON names: by a data URL, whose base64 is `raw`, or by an address."""

    param: str
    raw: bytes = b""
    url: str = ""


_URL_OF = ("image_url", "url")
_DATA = re.compile(rb'"data:[^,"]{0,99};base64,', re.IGNORECASE)
_MOST_COMMAS = 64 * 1024
"""In a body. Base64 has none, the longest prompt half of them: what has more is made of values by the million, which
would take gigabytes, and the interpreter for seconds."""
_LONGEST_VALUE = 256 * 1024
"""Bytes of a parameter. The longest prompt, escaped, takes three quarters of it."""
_STEP = 1 << 20
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_json(body: Any) -> tuple[dict[str, Any], list[Named], Named | None]:
    """The fields of a JSON body, without the pictures; the pictures in it; the mask. Raises CallerErred.

    Stepping over pictures takes a millisecond a megabyte.
    """
    _check_commas(body)
    try:
        raw = _decode_fields(body)
        fields = {name: _value(name, value) for name, value in raw.items() if name not in PICTURES}
        found = [one for name in ("images", "image", "image[]") if name in raw for one in _named(name, raw[name])]
        masks = _named("mask", raw["mask"]) if "mask" in raw else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise wrong("", 'The body must be a JSON object, in UTF-8, such as {"prompt": "a red lorry"}.') from None
    return fields, found, the_mask(masks)


def _check_commas(body: Any) -> None:
    """Raises CallerErred. What a body may decode to is known by its commas, which are counted in no time."""
    commas = 0
    with memoryview(body) as view:
        for start in range(0, len(view), _STEP):
            commas += bytes(view[start : start + _STEP]).count(b",")
            if commas > _MOST_COMMAS:
                raise wrong("", f"The body has more than {_MOST_COMMAS} commas, so many values. Send fewer.")


def _value(name: str, raw: msgspec.Raw) -> Any:
    if len(memoryview(raw)) > _LONGEST_VALUE:
        raise wrong(name[:40], f"{name[:40]} is longer than {_LONGEST_VALUE} bytes.")
    return msgspec.json.decode(raw)


def _named(param: str, raw: msgspec.Raw) -> list[Named]:
    """The pictures of a value: a URL, an object that has one, or a list of these."""
    first = bytes(memoryview(raw)[:1])
    if first == b"n":
        return []
    if first == b"[":
        items = _decode_list(raw)
        if len(items) > MOST_REFERENCES:
            raise _too_many(param, len(items))
        return [_one(param, item) for item in items]
    return [_one(param, raw)]


def _too_many(param: str, count: int) -> CallerErred:
    return wrong(param, f"{count} pictures are given; at most {MOST_REFERENCES} are taken.")


def _one(param: str, raw: msgspec.Raw, depth: int = 2) -> Named:
    view = memoryview(raw)
    first = bytes(view[:1])
    if first == b"{" and depth:
        fields = _decode_fields(raw)
        for name in _URL_OF:
            if name in fields:
                return _one(param, fields[name], depth - 1)
        if "file_id" in fields:
            raise wrong(param, "file_id is not taken: give the picture itself, in image_url, as a data URL.")
    elif first == b'"':
        head = _DATA.match(view[:160])
        if head is None and not bytes(view[:6]).lower().startswith(b'"data:'):
            return Named(param, url=msgspec.json.decode(raw, type=str))
        if head is not None:
            text = bytes(view[head.end() : -1])
            return Named(param, text if b"\\" not in text else unescaped(text))
    raise wrong(
        param,
        'A picture must be given as {"image_url": "data:image/png;base64,…"}: a data URL in base64, or an https URL '
        "where this server fetches them.",
    )


def unescaped(text: bytes) -> bytes:
    """What stands in a JSON string, of which some writers escape / and +. In steps, between which other threads have
    their turn. Raises msgspec.DecodeError."""
    pieces, at = [], 0
    while at < len(text):
        end = at + _STEP
        if (escape := text.rfind(b"\\", end - 6, end)) > at:  # so that none is cut in two
            end = escape
        pieces.append(str(msgspec.json.decode(b'"' + text[at:end] + b'"')).encode("utf-8", "replace"))
        at = end
    return b"".join(pieces)


def the_mask(masks: Sequence[P]) -> P | None:
    """The one of those that are given, where one is. Raises CallerErred."""
    if len(masks) > 1:
        raise wrong("mask", "mask must be one picture.")
    return masks[0] if masks else None


def check_count(pictures: Collection[object], param: str = "image") -> None:
    """Raises CallerErred where an edit has no picture, or more than are taken."""
    if not pictures:
        raise wrong(param, "An edit needs a picture: send image as a file, or images with an image_url in JSON.")
    if len(pictures) > MOST_REFERENCES:
        raise _too_many(param, len(pictures))
