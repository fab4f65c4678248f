"""The request line → Call: operation, model, and what goes up of path and query; or why not."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote_to_bytes

from proxy.errors import CallerErred, Hint, Reason
from proxy.gemini import surface
from proxy.gemini.credentials import CREDENTIAL_PARAMETERS, may_hold_credential, parameter_name
from proxy.gemini.hints import hint, of_retired

Framing = Literal["single", "sse", "array"]
"""What a response looks like: one JSON object, server-sent events, or one JSON array whose elements come one by one."""

VERSIONS = frozenset({"v1", "v1beta", "v1alpha", "v1beta1"})
DEFAULT_VERSION = "v1beta"
"""What a path without a version goes up as."""

_MAX_PATH = 1024
_MAX_QUERY = 8 * 1024
_MAX_PARAMETERS = 64
MAX_MODEL = 128

_COMMON_QUERIES = frozenset({b"", b"alt=sse", b"alt=json", b"$alt=sse", b"$alt=json", b"%24alt=sse", b"%24alt=json"})
"""The queries under which a Call is kept, so that nothing but a path and one of these ever stands in the cache."""

_UNMETERABLE = frozenset(
    {"fields", "$fields", "callback", "$callback", "$ct", "$httpMethod", "$httpHeaders", "X-HTTP-Method-Override"}
)
"""They would hide the usage, or make Google read another request than we do."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_PLACEHOLDER = re.compile(r"[{<$\[]")
_KEY_SHAPE = re.compile(r"(?:AIza|AQ\.|wb_)[A-Za-z0-9_-]{30}")
_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NOT_IN_A_QUERY = re.compile(rb"[^!-~]|[#;]")

_EXAMPLE = "/v1beta/models/gemini-3-pro-image:generateContent"
_OPENAI = frozenset(
    {
        *("chat", "completions", "embeddings", "images", "responses", "audio", "moderations"),
        *("files", "batches", "videos", "fine_tuning", "assistants", "threads", "vector_stores", "uploads", "realtime"),
    }
)
"""First segments of OpenAI's own paths. Google has some of them too (files, batches)."""
OPENAI_ALONE = _OPENAI - {"files", "batches"}
"""First segments that are OpenAI's and nobody else's."""
_COMPATIBLE = "/v1beta/openai"
_INSTEAD = {
    "chat": f"Chat stands at POST {_COMPATIBLE}/chat/completions.",
    "completions": f"Send messages to POST {_COMPATIBLE}/chat/completions.",
    "responses": f"Send messages to POST {_COMPATIBLE}/chat/completions.",
    "embeddings": f"Embeddings stand at POST {_COMPATIBLE}/embeddings.",
    "images": f"Pictures are made at POST {_COMPATIBLE}/images/generations, and edited at POST /v1/images/edits of "
    f"this proxy, or with POST {_EXAMPLE}.",
    "files": "Send the content inline instead, as a data URL in a message.",
    "batches": "Send the calls one by one.",
    "audio": f"Send audio to POST {_COMPATIBLE}/chat/completions, as input_audio in a message.",
}
"""What to use instead of what isn't served in the compatibility layer, by its first segment."""
_PREFIXED_TWICE = re.compile(rb"(/openai/+models/+)models(?:%2F|/+)(?=[^/])", re.IGNORECASE)
"""models.list says ids with "models/", and OpenAI's SDKs ask for one with its slash encoded."""
_VERTEX = frozenset({"projects", "publishers"})
_FILES = frozenset({"files", "upload", "cachedContents"})


@dataclass(frozen=True, slots=True)
class Call:
    """What a request line asks for."""

    operation: surface.Operation
    model: str
    """The one that goes up, without `models/`: "gemini-3-pro-image"; "" where the path names none."""
    target: bytes
    """What goes up: the canonical path, and of the query what may cross, byte for byte. No credential is in it."""
    framing: Framing
    model_asked: str
    """The one that the caller named: another than `model` where that stands in for it."""
    hint: Hint | None = None
    """The plain mistake in the request line, which is understood all the same."""
    adds_usage: bool = False
    """Its stream is asked for its usage, by a splice in its body, though whoever calls didn't ask for it."""

    def naming(self, asked: str, model: str, *, streams: bool, adds_usage: bool) -> Call:
        """The same call, of which the body has said which model it asks for, and how it is to be answered."""
        framing: Framing = "sse" if streams else "single"
        return replace(self, model=model, model_asked=asked, framing=framing, adds_usage=adds_usage)

    @property
    def counted_as(self) -> str:
        """Whose quota of Google's it takes from: its model's. Free operations have quotas of their own."""
        return self.model if self.operation.metered else f"{self.model}:{self.operation.name}"


def parse(method: str, raw_path: bytes, query: bytes) -> Call:
    """Reads a request line: the method in capitals, the path percent-encoded as it came, the query without its `?`.

    `//`, a trailing slash, `%3A` and a version put before the version (a base URL that already had one: the last one
    wins) are understood; the path that goes up has none of them. Whoever asks twice for the same gets the same Call.
    Raises CallerErred: UNKNOWN_OPERATION, UNMETERABLE_PARAMETER, or BAD_REQUEST for what is malformed.
    """
    if query not in _COMMON_QUERIES:
        query = without_credentials(query)
        if query not in _COMMON_QUERIES:
            return _parse(method, raw_path, query)
    return _cached(method, raw_path, query)


def _parse(method: str, raw_path: bytes, query: bytes) -> Call:
    path = _decoded(_PREFIXED_TWICE.sub(rb"\g<1>", raw_path))
    segments = [segment for segment in path.split("/") if segment]
    versions = [DEFAULT_VERSION]
    while segments and segments[0] in VERSIONS:
        versions.append(segments.pop(0))
    resource = "/".join(segments)
    if resource.startswith("models/models/"):
        raise _bad(f"'models/' stands twice in the path. Write it once, as in {_EXAMPLE}.")
    found = surface.find(method, resource)
    if found is None:
        raise _unknown(method, segments, resource)
    operation, model = found
    if operation.names_model:
        check_model(model)
    framing = _framing(operation, query)
    target = f"/{versions[-1]}/{resource}".encode("ascii")
    told = hint("version-twice") if len(versions) > 2 else None
    return Call(operation, model, target + b"?" + query if query else target, framing, model, hint=told)


_cached = lru_cache(maxsize=1024)(_parse)  # refusals are not kept, so a key that stands in a path isn't either


def _decoded(raw_path: bytes) -> str:
    """The path, percent-decoded once. Refuses whatever could be read in two ways further up."""
    if not raw_path.startswith(b"/") or len(raw_path) > _MAX_PATH:
        raise _bad(f"The path must start with a slash and be at most {_MAX_PATH} bytes long, as in {_EXAMPLE}.")
    if b"%2f" in raw_path.lower():
        raise _bad(
            "The path holds an encoded slash (%2F). Write the slash between models and the model's name as it is, and "
            "none inside of the name."
        )
    if _BROKEN_PERCENT.search(raw_path):
        raise _bad(
            "The path holds a percent sign without two hexadecimal digits after it. Write a percent sign as %25."
        )
    try:
        path = unquote_to_bytes(raw_path).decode("ascii")
    except UnicodeDecodeError:
        raise _bad("The path holds something other than ASCII, which no path of the Gemini API does.") from None
    if "\\" in path or not path.isprintable():
        raise _bad("The path holds a backslash or a control character.")
    if ".." in path or "/./" in path or path.endswith("/."):
        raise _bad("The path holds '.' or '..' as a segment. Send the path that is meant.")
    return path


def check_model(model: str) -> None:
    """Raises CallerErred BAD_REQUEST for what can't be the id of a model, without "models/"."""
    if _PLACEHOLDER.search(model):
        raise _bad(
            "A placeholder stands where the model's name belongs. Put the name of a model in its place, as in "
            f"{_EXAMPLE}; GET /v1beta/models lists them.",
            hint("shell-variable") if model.startswith("$") else None,
        )
    if _KEY_SHAPE.match(model):
        raise _bad(
            "A key stands where the model's name belongs. Send keys in the header x-goog-api-key, never in a path."
        )
    if len(model) > MAX_MODEL or not _MODEL.fullmatch(model):
        raise _bad(
            f"The model's name is missing or malformed: letters, digits, '.', '_' and '-', at most {MAX_MODEL}, as in "
            f"{_EXAMPLE}."
        )


def without_credentials(query: bytes) -> bytes:
    """The query without its credentials; the rest as it came. Refuses what another server might split elsewhere.

    Raises CallerErred BAD_REQUEST.
    """
    if len(query) > _MAX_QUERY or query.count(b"&") >= _MAX_PARAMETERS:
        raise _bad(f"The query is too long: at most {_MAX_QUERY} bytes and {_MAX_PARAMETERS} parameters.")
    if _NOT_IN_A_QUERY.search(query):
        raise _bad("The query holds a character that must be percent-encoded there (';' is %3B, '#' is %23).")
    if not may_hold_credential(query):
        return query
    pieces = query.split(b"&")
    kept = [piece for piece in pieces if parameter_name(piece) not in CREDENTIAL_PARAMETERS]
    return query if len(kept) == len(pieces) else b"&".join(kept)


def _framing(operation: surface.Operation, query: bytes) -> Framing:
    """What the response will look like, from a query of which every parameter is checked."""
    formats = set()
    for piece in query.split(b"&"):
        name = parameter_name(piece).decode("latin-1")
        if name in ("alt", "$alt"):
            formats.add(unquote_to_bytes(piece.partition(b"=")[2]))
        elif piece and name not in operation.parameters:
            raise _refused_parameter(operation, name)
    if not formats <= {b"json", b"sse"}:
        raise CallerErred(
            Reason.UNMETERABLE_PARAMETER,
            "alt must be json or sse: in another format the usage can't be read. Send alt=sse to stream, or none.",
        )
    if len(formats) > 1:
        raise _bad("alt is given twice, with different values. Send it once.")
    if not operation.streaming:
        return "single"  # with alt=sse, too, which crosses
    return "sse" if b"sse" in formats else "array"


def _refused_parameter(operation: surface.Operation, name: str) -> CallerErred:
    if name in _UNMETERABLE:
        return CallerErred(
            Reason.UNMETERABLE_PARAMETER,
            f"The parameter {name} is not taken: it can hide what a call used, or change what is asked. Leave it out.",
        )
    allowed = ", ".join(sorted(operation.parameters))
    return _bad(f"{_shown(name, 'A parameter')} is not a parameter of {operation.name} here. Taken are: {allowed}.")


def _unknown(method: str, segments: list[str], resource: str) -> CallerErred:
    first = segments[0] if segments else ""
    name, _, verb = resource.rpartition(":")
    if there := surface.at(resource):
        message = f"{there.name} takes {there.method}, not {_shown(method, 'that')}."
        if method == "POST" and not there.compatible:
            message += f" To make a call, put its method after the model, as in POST {_EXAMPLE}."
        return _not_served(message)
    if first in _VERTEX:
        return _not_served(
            "This path belongs to Vertex AI, which is another family of endpoints with other credentials. Call the "
            f"Gemini API's path, as in POST {_EXAMPLE}; in an SDK, turn off vertexai (GOOGLE_GENAI_USE_VERTEXAI).",
            hint("vertex-path"),
        )
    if first == surface.COMPATIBLE or first in OPENAI_ALONE:
        return _not_served(_openai_shaped(segments))
    if re.fullmatch(r"v\d+[a-z0-9]*", first):
        return _not_served(f"This API version is not served. Served are: {', '.join(sorted(VERSIONS))}.")
    if verb and surface.at(f"models/x:{verb}") and "/" not in name:
        return _bad(f"The Gemini API takes a model as models/NAME, as in {_EXAMPLE}.")
    what = f"{_shown(verb, 'This')} is not served" if first == "models" and verb else "Nothing here has this path"
    served = ", ".join(operation.name for operation in surface.OPERATIONS)
    return _not_served(f"{what}. Served are: {served}; as in POST {_EXAMPLE}.", _beside(first, name, verb))


def _beside(first: str, name: str, verb: str) -> Hint | None:
    """What helps who asks for something that isn't served: the resource's first segment, its name and its verb."""
    if first in _FILES:
        return hint("send-inline")
    if verb == "predict" and name.startswith("models/imagen-"):
        return of_retired(name.removeprefix("models/"), "imagen")
    return None


def _openai_shaped(segments: list[str]) -> str:
    """What a path of OpenAI's is told: what to use in its place."""
    below = [one for one in segments if one != surface.COMPATIBLE and one not in VERSIONS]
    instead = _INSTEAD.get(below[0]) if below else None
    if instead is None:
        served = ", ".join(f"{one.method} {one.path}" for one in surface.OPERATIONS if one.compatible)
        instead = f"Google's compatibility layer has here, under /v1beta/: {served}."
    return f"Nothing of OpenAI's API is served at this path. {instead} The layer's base URL ends with {_COMPATIBLE}/."


def _shown(text: str, otherwise: str) -> str:
    """What a caller sent, where it may be repeated to them: short, and of a shape that no key has."""
    return text if re.fullmatch(r"[A-Za-z$._-]{1,24}", text) else otherwise


def _bad(message: str, told: Hint | None = None) -> CallerErred:
    return CallerErred(Reason.BAD_REQUEST, message, told)


def _not_served(message: str, told: Hint | None = None) -> CallerErred:
    return CallerErred(Reason.UNKNOWN_OPERATION, message, told)
