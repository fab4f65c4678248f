"""THE table of operations: what is served, where it stands, and what is metered."""

from __future__ import annotations

from dataclasses import dataclass

_FORMAT = frozenset({"alt", "$alt", "prettyPrint", "$prettyPrint", "quotaUser"})
"""System parameters that neither hide the usage nor change what an error looks like.
https://docs.cloud.google.com/apis/docs/system-parameters"""

_PAGE = frozenset({"pageSize", "page_size", "pageToken", "page_token", "filter"})

COMPATIBLE = "openai"
"""The first segment of what stands in Google's compatibility layer, which speaks OpenAI's dialect."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One row of the table. Rows are compared by identity."""

    name: str
    """Google's name for it; what stands in the ledger and in metrics."""
    method: str
    """The HTTP method, in capitals."""
    path: str
    """The resource path without a version; `{model}` is one segment."""
    body: bool = False
    """Takes a JSON body."""
    metered: bool = False
    """Leaves a usage record, and a 2xx response bears usageMetadata; free operations do neither."""
    repeatable: bool = False
    """Costs nothing and changes nothing: may be sent again whatever became of it."""
    streaming: bool = False
    """The response comes as a stream: of events with `alt=sse`, else of the elements of one JSON array."""
    parameters: frozenset[str] = _FORMAT
    """Query parameters that cross."""
    compatible: bool = False
    """It belongs to Google's compatibility layer: OpenAI's shapes, and a credential of its own."""
    body_names_model: bool = False
    """Which model it asks for stands in its body, and whether it streams."""

    @property
    def names_model(self) -> bool:
        return "{model}" in self.path


def _on_model(name: str, *, metered: bool = True, streaming: bool = False) -> Operation:
    path = f"models/{{model}}:{name}"
    return Operation(name, "POST", path, body=True, metered=metered, repeatable=not metered, streaming=streaming)


def _compatible(name: str, method: str, path: str) -> Operation:
    posts, reads = method == "POST", method == "GET"
    return Operation(
        f"{COMPATIBLE}.{name}",
        method,
        f"{COMPATIBLE}/{path}",
        body=posts,
        metered=posts,
        repeatable=reads,
        compatible=True,
        body_names_model=posts,
    )


OPERATIONS: tuple[Operation, ...] = (
    _on_model("generateContent"),
    _on_model("streamGenerateContent", streaming=True),
    _on_model("embedContent"),
    _on_model("batchEmbedContents"),
    _on_model("countTokens", metered=False),
    Operation("models.list", "GET", "models", repeatable=True, parameters=_FORMAT | _PAGE),
    Operation("models.get", "GET", "models/{model}", repeatable=True),
    _compatible("chat.completions", "POST", "chat/completions"),
    _compatible("embeddings", "POST", "embeddings"),
    _compatible("images.generations", "POST", "images/generations"),
    _compatible("models.list", "GET", "models"),
    _compatible("models.get", "GET", "models/{model}"),
)

_TABLE = {(operation.method, operation.path): operation for operation in OPERATIONS}


def find(method: str, path: str) -> tuple[Operation, str] | None:
    """The operation at a resource path without its version, and the model's segment as it stands there ("" for none).

    `path` is decoded and has no slash at either end: "models/gemini-3-pro-image:generateContent". The method's name
    stands after the last colon. The model is not checked: it may be empty, or hold a slash where a method follows.
    """
    shape, model = _shape(path)
    operation = _TABLE.get((method, shape))
    return (operation, model) if operation else None


def at(path: str) -> Operation | None:
    """The operation that stands at a resource path under whatever HTTP method."""
    shape, _ = _shape(path)
    return next((operation for operation in OPERATIONS if operation.path == shape), None)


def _shape(path: str) -> tuple[str, str]:
    collection, slash, rest = path.partition("/")
    if collection == COMPATIBLE:
        holder, _, model = rest.partition("/")
        named = holder == "models" and model and "/" not in model
        return (f"{COMPATIBLE}/models/{{model}}", model) if named else (path, "")
    name, colon, verb = rest.rpartition(":")
    if colon:
        return f"{collection}/{{model}}:{verb}", name
    if slash and "/" not in rest:
        return f"{collection}/{{model}}", rest
    return path, ""
